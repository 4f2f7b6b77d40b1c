import hashlib
import itertools

import numpy as np
import pytest

from scs_jax.data import Examples, batches


def numbered(count: int) -> Examples:
  """Examples whose image and label tell their index."""
  index = np.arange(count)
  images = np.stack([index % 251, index // 251], -1).astype(np.uint8)[:, None, None, :]
  return Examples(images, (index % 7).astype(np.int32), 7)


def index_of(images: np.ndarray) -> np.ndarray:
  return images[:, 0, 0, 0] + 251 * images[:, 0, 0, 1].astype(np.int32)


def take(iterator, count: int) -> dict[str, np.ndarray]:
  """The next `count` batches, concatenated."""
  drawn = list(itertools.islice(iterator, count))
  return {key: np.concatenate([batch[key] for batch in drawn]) for key in drawn[0]}


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key])


# Training.


@pytest.mark.parametrize('count', [1, 7, 60])
@pytest.mark.parametrize('batch_size', [1, 4, 7, 13, 60, 150])
def test_each_epoch_has_each_example_once(count, batch_size):
  epochs = 5
  drawn = take(
    batches.TrainBatches(numbered(count), batch_size, seed=3), -(-epochs * count // batch_size)
  )
  np.testing.assert_array_equal(index_of(drawn['image']), drawn['index'])
  np.testing.assert_array_equal(drawn['label'], drawn['index'] % 7)
  np.testing.assert_array_equal(drawn['epoch'], np.arange(len(drawn['epoch'])) // count)
  for epoch in range(epochs):
    assert sorted(drawn['index'][drawn['epoch'] == epoch]) == list(range(count))


def test_every_batch_is_full_and_typed():
  for batch in itertools.islice(batches.TrainBatches(numbered(10), 4, seed=0), 10):
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
      'image': ((4, 1, 1, 2), np.uint8),
      'label': ((4,), np.int32),
      'epoch': ((4,), np.int32),
      'index': ((4,), np.int32),
    }


def test_epochs_and_seeds_differ():
  orders = {
    tuple(take(batches.TrainBatches(numbered(50), 50, seed=seed, start=epoch), 1)['index'])
    for seed in range(4)
    for epoch in range(4)
  }
  assert len(orders) == 16


def test_golden_order():
  """A changed order means that old runs cannot be repeated or resumed."""
  index = take(batches.TrainBatches(numbered(1000), 300, seed=1), 10)['index']
  assert (
    hashlib.sha256(index.tobytes()).hexdigest()
    == 'e72925870ba2a8ca5ba41cc2778212b0c5357ec373c30579fb8e11552535f69d'
  )


@pytest.mark.parametrize('process_count', [2, 4])
@pytest.mark.parametrize('batch_size', [4, 12, 40])
def test_hosts_together_make_the_global_batch(process_count, batch_size):
  examples = numbered(15)
  hosts = [
    batches.TrainBatches(examples, batch_size, seed=5, process_index=i, process_count=process_count)
    for i in range(process_count)
  ]
  for whole in itertools.islice(batches.TrainBatches(examples, batch_size, seed=5), 12):
    parts = [next(host) for host in hosts]
    assert {len(part['label']) for part in parts} == {batch_size // process_count}
    assert_equal({key: np.concatenate([p[key] for p in parts]) for key in whole}, whole)


@pytest.mark.parametrize('done', [0, 1, 3, 8])
def test_restored_equals_uninterrupted(done):
  examples = numbered(25)
  whole = batches.TrainBatches(examples, 6, seed=2)
  take(whole, done) if done else None
  state = whole.state()
  assert state == {'step': done}
  restored = batches.TrainBatches(examples, 6, seed=2)
  take(restored, 5)
  restored.restore(state)
  started = batches.TrainBatches(examples, 6, seed=2, start=done)
  expected = take(whole, 10)
  assert_equal(take(restored, 10), expected)
  assert_equal(take(started, 10), expected)
  assert restored.state() == {'step': done + 10}


def test_restores_on_another_host_count():
  examples = numbered(25)
  one = batches.TrainBatches(examples, 8, seed=2)
  take(one, 3)
  hosts = [
    batches.TrainBatches(examples, 8, seed=2, process_index=i, process_count=4) for i in range(4)
  ]
  for host in hosts:
    host.restore(one.state())
  parts = [next(host) for host in hosts]
  whole = next(one)
  assert_equal({key: np.concatenate([p[key] for p in parts]) for key in whole}, whole)


def test_far_ahead():
  batch = next(batches.TrainBatches(numbered(25), 8, seed=2, start=10**9))
  np.testing.assert_array_equal(batch['epoch'], (8 * 10**9 + np.arange(8)) // 25)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'batch_size': 0}, 'batch_size=0 must be at least 1'),
    ({'batch_size': -8}, 'batch_size=-8 must be at least 1'),
    ({'batch_size': 8.0}, 'batch_size=8.0 must be an integer, got float'),
    ({'batch_size': True}, 'batch_size=True must be an integer, got bool'),
    ({'process_count': 3}, 'batch_size=8 must be divisible by process_count=3'),
    ({'process_count': 0}, 'process_count=0 must be at least 1'),
    ({'process_index': 2, 'process_count': 2}, 'process_index=2 must be below process_count=2'),
    ({'process_index': -1}, 'process_index=-1 must be at least 0'),
    ({'seed': -1}, 'seed=-1 must be at least 0'),
    ({'seed': None}, 'seed=None must be an integer, got NoneType'),
    ({'start': -1}, 'start=-1 must be at least 0'),
  ],
)
def test_wrong_arguments(arguments, message):
  arguments = {'batch_size': 8, 'seed': 0} | arguments
  with pytest.raises(ValueError, match=message):
    batches.TrainBatches(numbered(5), **arguments)
  if not {'seed', 'start'} & set(message.split('=')):
    del arguments['seed']
    with pytest.raises(ValueError, match=message):  # at the call, not at the first batch
      batches.evaluation_batches(numbered(5), **arguments)


@pytest.mark.parametrize('state', [{}, {'step': 1, 'epoch': 0}, 3, None, {'epoch': 0}])
def test_wrong_state(state):
  with pytest.raises(ValueError, match=r'state must be .*as state\(\) returns it, got'):
    batches.TrainBatches(numbered(5), 2, seed=0).restore(state)


@pytest.mark.parametrize('step', [-1, 1.5, '3', None, True])
def test_wrong_step_in_state(step):
  with pytest.raises(ValueError, match=r"state\['step'\]="):
    batches.TrainBatches(numbered(5), 2, seed=0).restore({'step': step})


def test_state_may_come_back_as_a_numpy_number():
  iterator = batches.TrainBatches(numbered(5), 2, seed=0)
  iterator.restore({'step': np.int64(3)})
  assert iterator.state() == {'step': 3}
  assert type(iterator.state()['step']) is int


# Evaluation.


@pytest.mark.parametrize('count', [1, 5, 8, 17])
@pytest.mark.parametrize(
  ('batch_size', 'process_count'), [(1, 1), (4, 1), (4, 2), (4, 4), (8, 2), (20, 4), (32, 1)]
)
def test_evaluation_has_each_example_once(count, batch_size, process_count):
  examples = numbered(count)
  hosts = [
    list(
      batches.evaluation_batches(examples, batch_size, process_index=i, process_count=process_count)
    )
    for i in range(process_count)
  ]
  assert {len(host) for host in hosts} == {-(-count // batch_size)}
  rows = batch_size // process_count
  for batch in itertools.chain(*hosts):
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
      'image': ((rows, 1, 1, 2), np.uint8),
      'label': ((rows,), np.int32),
      'weight': ((rows,), np.float32),
    }
  drawn = {
    key: np.concatenate([host[n][key] for n in range(len(hosts[0])) for host in hosts])
    for key in ('image', 'label', 'weight')
  }
  assert drawn['weight'].sum() == count
  assert set(drawn['weight']) <= {0, 1}
  index = index_of(drawn['image'])
  assert index[drawn['weight'] == 1].tolist() == list(range(count))  # each once, in order
  assert (index[drawn['weight'] == 0] == count - 1).all()
  np.testing.assert_array_equal(drawn['label'], index % 7)
