"""Batches of examples in memory. Global batch `n` is a pure function of `(seed, n)`."""

import functools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from scs_jax.data.examples import Examples
from scs_jax.errors import ArgumentError


class Order:
  """The order of training examples: one permutation per epoch, joined end to end.

  Args:
    count: the number of examples.
    seed: the seed of the permutations, at least 0.

  Raises:
    ArgumentError: `seed` is not an integer of at least 0.

  Example:
    >>> import numpy as np
    >>> from scs_jax.data.batches import Order
    >>> epoch, index = Order(count=3, seed=0).locate(np.arange(6))
    >>> epoch.tolist(), sorted(index[:3].tolist()), sorted(index[3:].tolist())
    ([0, 0, 0, 1, 1, 1], [0, 1, 2], [0, 1, 2])
  """

  def __init__(self, count: int, seed: int) -> None:
    self._count = count
    self._seed = _integer('seed', seed, at_least=0)

  def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epoch and the example at each position.

    Args:
      positions: `[n]`, integers, ascending. Position `count · e` is the first of epoch `e`.

    Returns:
      epoch `[n]` int32 and index of the example `[n]` int32.
    """
    epoch, offset = np.divmod(positions, self._count)
    index = np.empty(len(positions), np.int32)
    for e in range(epoch[0], epoch[-1] + 1):
      inside = epoch == e
      index[inside] = _permutation(self._count, self._seed, int(e))[offset[inside]]
    return epoch.astype(np.int32), index


@functools.lru_cache(maxsize=2)  # a batch at the end of an epoch needs two permutations
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
  rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))
  return rng.permutation(count).astype(np.int32)


class TrainBatches:
  """An endless iterator over shuffled batches. Its only state is the number of the next batch.

  The permutations of epochs 0, 1, 2, … are joined end to end and cut into batches. Every batch is
  full, no example is dropped, and a batch may span epochs. Each host takes its contiguous rows of
  the global batch. The global batch does not depend on the number of hosts, so a run may resume on
  another number of hosts. A batch contains `epoch` and `index`, because the randomness of an
  example, such as its augmentation, is keyed by `(seed, epoch, index)`. It therefore does not
  depend on hosts or on batches.

  Args:
    examples: the examples to draw from.
    batch_size: the rows of the global batch, over all hosts.
    seed: the seed of the permutations, at least 0.
    process_index: the number of this host, in `[0, process_count)`.
    process_count: the number of hosts. It must divide `batch_size`.
    start: the number of the first batch.

  Yields:
    a dict of this host's `rows = batch_size // process_count` rows: `image`
    `[rows, height, width, channels]` uint8, `label` `[rows]` int32, `epoch` `[rows]` int32, and
    `index` `[rows]` int32, the position in `examples`.

  Raises:
    ArgumentError: an argument is not an integer or out of range.

  Example:
    >>> from scs_jax import data
    >>> from scs_jax.data.batches import TrainBatches
    >>> iterator = TrainBatches(data.load('fake', 'train'), 8, seed=0)
    >>> batch = next(iterator)
    >>> batch['image'].shape, iterator.state()
    ((8, 32, 32, 3), {'step': 1})
  """

  def __init__(
    self,
    examples: Examples,
    batch_size: int,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    start: int = 0,
  ) -> None:
    self._examples = examples
    self._batch_size = batch_size
    self._rows = rows_of(batch_size, process_index, process_count)
    self._order = Order(len(examples.labels), seed)
    self._step = _integer('start', start, at_least=0)

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    epoch, index = self._order.locate(self._step * self._batch_size + self._rows)
    self._step += 1
    return {
      'image': self._examples.images[index],
      'label': self._examples.labels[index],
      'epoch': epoch,
      'index': index,
    }

  def state(self) -> dict[str, int]:
    """Returns `{'step': n}`, where `n` is the number of the next batch. All hosts agree on it."""
    return {'step': self._step}

  def restore(self, state: dict[str, Any]) -> None:
    """Continues from a state that `state` returned, on this host or another one.

    Raises:
      ArgumentError: `state` is not `{'step': n}`.
    """
    self._step = step_of(state)


def step_of(state: dict[str, Any]) -> int:
  """Returns `n` of `{'step': n}`, the state of an iterator over batches.

  Raises:
    ArgumentError: `state` is not `{'step': n}`.
  """
  if not isinstance(state, dict) or set(state) != {'step'}:
    raise ArgumentError(f"state must be {{'step': n}} as state() returns it, got {state!r}")
  return _integer("state['step']", state['step'], at_least=0)


def evaluation_batches(
  examples: Examples, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
  """Returns an iterator over all examples once, in order.

  All batches have the same shape, and each host gets the same number of batches. The last batch is
  padded with copies of the last example. These have weight 0.

  Args:
    examples: the examples to evaluate.
    batch_size: the rows of the global batch, over all hosts.
    process_index: the number of this host, in `[0, process_count)`.
    process_count: the number of hosts. It must divide `batch_size`.

  Returns:
    an iterator over dicts of this host's `rows = batch_size // process_count` rows: `image`
    `[rows, height, width, channels]` uint8, `label` `[rows]` int32, and `weight` `[rows]` float32,
    1 for an example and 0 for padding.

  Raises:
    ArgumentError: an argument is not an integer or out of range. The call raises it, not the first
      batch.
  """
  rows = rows_of(batch_size, process_index, process_count)
  return _evaluation_batches(examples, batch_size, rows)


def _evaluation_batches(
  examples: Examples, batch_size: int, rows: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
  count = len(examples.labels)
  for start in range(0, count, batch_size):
    positions = start + rows
    index = np.minimum(positions, count - 1)
    yield {
      'image': examples.images[index],
      'label': examples.labels[index],
      'weight': (positions < count).astype(np.float32),
    }


def rows_of(batch_size: int, process_index: int, process_count: int) -> np.ndarray:
  """Returns this host's rows of a global batch, `[batch_size // process_count]` int64.

  Raises:
    ArgumentError: an argument is not an integer or out of range.
  """
  _integer('batch_size', batch_size, at_least=1)
  _integer('process_count', process_count, at_least=1)
  _integer('process_index', process_index, at_least=0)
  if process_index >= process_count:
    raise ArgumentError(
      f'process_index={process_index} must be below process_count={process_count}'
    )
  if batch_size % process_count:
    raise ArgumentError(
      f'batch_size={batch_size} must be divisible by process_count={process_count}: '
      'every host takes the same number of rows'
    )
  rows = batch_size // process_count
  return process_index * rows + np.arange(rows, dtype=np.int64)


def _integer(name: str, value: Any, *, at_least: int) -> int:
  try:
    if isinstance(value, bool):
      raise TypeError
    value = operator.index(value)
  except TypeError:
    raise ArgumentError(
      f'{name}={value!r} must be an integer, got {type(value).__name__}'
    ) from None
  if value < at_least:
    raise ArgumentError(f'{name}={value} must be at least {at_least}')
  return value
