"""Records that cannot be read: named, or left out, counted and said. Batches stay pure."""

import kinds
import numpy as np
import pytest
from PIL import Image
from tiny import CLASSES, encoded

from scs_jax import data
from scs_jax.data.bad_records import BadRecordError

BAD = {3, 4, 11}


@pytest.fixture(scope='module')
def damaged(tmp_path_factory):
  """Twenty grey pictures as bright as their numbers, of which three are none."""
  gray = lambda i: kinds.encode(Image.new('L', (9, 8), i), 'PNG')
  rows = [(b'junk' if i in BAD else gray(i), i % CLASSES) for i in range(20)]
  return encoded(tmp_path_factory.mktemp('damaged'), rows, channels=1)


@pytest.mark.parametrize(
  ('allowed', 'message'),
  [
    (0, r"^record 3 of tiny, split 'train', cannot be decoded: .*b'junk'\. .*skip_bad_records=1$"),
    (
      2,
      r'^record 11 of tiny, .*\. 3 of 20 records are bad, and data\.skip_bad_records=2\. Its file',
    ),
  ],
)
def test_bad_records_in_memory_are_named(damaged, allowed, message):
  with pytest.raises(BadRecordError, match=message):
    data.load('tiny', 'train', **damaged, skip_bad_records=allowed)


def test_bad_records_in_memory_are_left_out_counted_and_said(damaged, caplog):
  whole = data.load('tiny', 'train', **damaged, skip_bad_records=3)
  assert whole.images[:, 0, 0, 0].tolist() == [i for i in range(20) if i not in BAD]
  for number, bad in enumerate(sorted(BAD), 1):
    assert f"record {bad} of tiny, split 'train', cannot be decoded" in caplog.text
    assert f'It is left out: {number} of 20 records are bad, of at most 3' in caplog.text
  parts = [
    data.load('tiny', split, **damaged, skip_bad_records=3)
    for split in ('train[:4]', 'train[4:10]', 'train[10:]')
  ]
  assert [part.size for part in parts] == [3, 5, 9]
  np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images)
  with pytest.raises(BadRecordError):  # the bad ones are met again, not hidden by the cache
    data.load('tiny', 'train', **damaged)


def streamed(damaged, **more):
  return data.load('tiny', 'train', **damaged, resolution=8, skip_bad_records=3, **more)


def draw(records, steps, start=0, hosts=1):
  """Global batches, put together from those of every host."""
  iterators = [
    data.train_batches(records, 4, seed=1, process_index=i, process_count=hosts)
    for i in range(hosts)
  ]
  for iterator in iterators:
    iterator.restore({'step': start})
  batches = [[next(iterator) for iterator in iterators] for _ in range(steps)]
  return [
    {name: np.concatenate([host[name] for host in batch]) for name in batch[0]} for batch in batches
  ]


def test_the_next_good_record_takes_the_place_of_a_bad_one(damaged, caplog):
  batches = draw(streamed(damaged), 10)
  index = np.concatenate([batch['index'] for batch in batches])
  assert sorted(index[:20]) == list(range(20))  # bad records keep their numbers
  shown = np.concatenate([batch['image'][:, 0, 0, 0] for batch in batches])
  labels = np.concatenate([batch['label'] for batch in batches])
  instead = np.array([{3: 5, 4: 5, 11: 12}.get(int(i), i) for i in index])
  np.testing.assert_array_equal(shown, instead)
  np.testing.assert_array_equal(labels, instead % CLASSES)
  assert caplog.text.count('It is left out') == 3  # once each, in two epochs


@pytest.mark.parametrize(('start', 'hosts'), [(0, 2), (3, 1), (7, 4)])
def test_batches_with_bad_records_depend_on_their_number_alone(damaged, start, hosts):
  expected = draw(streamed(damaged), 10)[start:]
  for batch, again in zip(expected, draw(streamed(damaged), 10 - start, start, hosts), strict=True):
    for name in batch:
      np.testing.assert_array_equal(batch[name], again[name], name)


def test_bad_records_have_no_weight_in_an_evaluation(damaged):
  batches = list(data.evaluation_batches(streamed(damaged), 6))
  weight = np.concatenate([batch['weight'] for batch in batches])
  assert np.flatnonzero(weight == 0).tolist() == [*sorted(BAD), 20, 21, 22, 23]  # and the padding
  assert 'bad' not in batches[0]


def test_more_bad_records_in_a_stream_than_are_allowed(damaged):
  records = data.load('tiny', 'train', **damaged, resolution=8, skip_bad_records=2)
  with pytest.raises(
    BadRecordError, match=r'3 of 20 records are bad, and data\.skip_bad_records=2'
  ):
    draw(records, 5)


def test_a_record_that_is_bad_by_chance_is_an_error(damaged, monkeypatch):
  """Otherwise the batch would depend on the disk's mood, and a resumed run would differ."""
  records = streamed(damaged)
  fetch, failed = type(records.source).__getitem__, []

  def sometimes(source, number):
    if int(number) == 7 and not failed:
      failed.append(number)
      raise OSError(5, 'Input/output error')
    return fetch(source, number)

  monkeypatch.setattr(type(records.source), '__getitem__', sometimes)
  with pytest.raises(BadRecordError, match=r'record 7 .* at the second try only\. Check the disk'):
    draw(records, 5)
