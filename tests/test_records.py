"""Streaming on a miniature of ImageNet: JPEGs of many sizes, prepared by TFDS as array_record."""

import io

import numpy as np
import pytest
from PIL import Image
from test_train import small_config
from tiny import features, prepare

from scs_jax import train
from scs_jax.data import Examples, batches, crops, records

SIZES = [(40, 30), (25, 60), (33, 33), (300, 200), (24, 24), (50, 41)]
COUNT = 26


def picture(number):
  """A JPEG whose left half is as bright as its number, its right half black."""
  width, height = SIZES[number % len(SIZES)]
  pixels = np.zeros((height, width, 3), np.uint8)
  pixels[:, : width // 2] = 9 * (number % 28)
  return pixels


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """ImageNet's schema: images of any size, encoded as JPEG, 1,000 classes."""
  import tensorflow_datasets as tfds

  data_dir = tmp_path_factory.mktemp('prepared')
  kinds = features(
    image=tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg'),
    label=tfds.features.ClassLabel(num_classes=1000),
  )
  rows = [(picture(i), i) for i in range(COUNT)]
  prepare(data_dir, kinds, {'train': rows, 'validation': rows[:7]})
  return data_dir


def load(folder, split='train', **more):
  return records.load('tiny', split, data_dir=str(folder), **{'resolution': 16, **more})


def test_sizes_and_centre_crops(folder):
  data = load(folder, 'validation')
  assert (data.size, data.image_shape, data.num_classes) == (7, (16, 16, 3), 1000)
  batches = list(records.evaluation_batches(data, 4))
  assert [batch['label'].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 6]]
  assert np.concatenate([batch['weight'] for batch in batches]).tolist() == [1.0] * 7 + [0.0]
  for image, label in zip(batches[0]['image'], batches[0]['label'], strict=True):
    assert image.dtype == np.uint8
    assert abs(int(image[:, :6].mean()) - 9 * label) <= 3  # JPEG
    assert image[:, 10:].mean() <= 3


def collect(data, steps, batch_size=8, start=0, hosts=1):
  """The global batches from `start` on, put together from those of every host."""
  iterators = [
    records.TrainBatches(data, batch_size, seed=3, process_index=i, process_count=hosts)
    for i in range(hosts)
  ]
  for iterator in iterators:
    iterator.restore({'step': start})
  batches = [[next(iterator) for iterator in iterators] for _ in range(steps)]
  assert all(iterator.state() == {'step': start + steps} for iterator in iterators)
  return [
    {name: np.concatenate([host[name] for host in batch]) for name in batch[0]} for batch in batches
  ]


def assert_same(some, others):
  for a, b in zip(some, others, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], name)


@pytest.fixture(scope='module')
def ten(folder):
  return collect(load(folder), 10)


def test_every_record_once_an_epoch_and_cropped_anew_in_each(ten):
  index = np.concatenate([batch['index'] for batch in ten])
  epoch = np.concatenate([batch['epoch'] for batch in ten])
  images = np.concatenate([batch['image'] for batch in ten])
  for e in (0, 1, 2):
    assert sorted(index[epoch == e]) == list(range(COUNT))
  first, second = (images[(index == 3) & (epoch == e)][0] for e in (0, 1))
  assert not np.array_equal(first, second)
  labels = np.concatenate([batch['label'] for batch in ten])
  np.testing.assert_array_equal(labels, index)


@pytest.mark.parametrize('start', [1, 3, 7])
def test_goes_on_from_the_number_of_a_batch(folder, ten, start):
  assert_same(collect(load(folder), 3, start=start), ten[start : start + 3])


@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_make_up_the_same_batches(folder, ten, hosts):
  assert_same(collect(load(folder), 4, start=2, hosts=hosts), ten[2:6])


def test_worker_processes_make_the_same_batches(folder, ten):
  assert_same(collect(load(folder, workers=2), 5), ten[:5])


def test_memory_and_stream_have_the_same_order(folder):
  images = np.zeros((COUNT, 4, 4, 1), np.uint8)
  examples = Examples(images, np.arange(COUNT, dtype=np.int32), 1000)
  memory = batches.TrainBatches(examples, 8, seed=3)
  for streamed in collect(load(folder), 4):
    batch = next(memory)
    np.testing.assert_array_equal(batch['index'], streamed['index'])
    np.testing.assert_array_equal(batch['epoch'], streamed['epoch'])


def test_random_boxes_are_inside_and_vary():
  rng, boxes = np.random.default_rng(0), set()
  for width, height in SIZES * 30:
    left, top, right, bottom = box = crops.random_box(rng, (width, height))
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    boxes.add(box)
  assert len(boxes) > 100


def test_a_jpeg_that_does_not_decode_is_named(folder, monkeypatch):
  data = load(folder)
  broken = {5: {**data.source[5], 'image': data.source[5]['image'][:100]}}
  fetch = type(data.source).__getitem__
  monkeypatch.setattr(
    type(data.source), '__getitem__', lambda self, i: broken.get(int(i)) or fetch(self, i)
  )
  with pytest.raises(ValueError, match=r"record 5 of tiny, split 'train', cannot be decoded"):
    data.read(5, None)
  with pytest.raises(ValueError, match='record 5 of tiny'):
    list(records.evaluation_batches(data, 4))


def test_gray_and_cmyk_jpegs_become_what_the_data_set_says(folder):
  data = load(folder)
  for mode in ('L', 'CMYK'):
    file = io.BytesIO()
    Image.new(mode, (20, 30)).save(file, 'JPEG')
    source = [{'image': file.getvalue(), 'label': 1}]
    changed = records.Records('x', 'train', source, 16, data.channels, 10, 0)
    assert changed.read(0, np.random.default_rng(0))[0].shape == (16, 16, 3)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'split': 'test'}, r"split='test' cannot be read.*'train': 26"),
    ({'resolution': 0}, r'data\.resolution must be at least 1, got 0'),
    ({'workers': -1}, r'data\.workers must be at least 0, got -1'),
  ],
)
def test_wrong_arguments_are_told(folder, arguments, message):
  with pytest.raises(ValueError, match=message):
    load(folder, **arguments)


def test_a_run_streams(folder, tmp_path):
  config = small_config()
  config.data.name, config.data.data_dir = 'tiny', str(folder)
  config.data.train_split, config.data.eval_split = 'train', 'validation'
  config.data.resolution, config.batch_size = 16, 8
  values = train.train_and_evaluate(config, tmp_path)
  assert np.isfinite(values['val/loss'])
