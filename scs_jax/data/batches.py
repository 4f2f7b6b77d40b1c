"""Whole batches from examples in memory: global batch n is a pure function of (seed, n)."""

import functools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from scs_jax.data.examples import Examples


class Order:
  """The order of training examples: the permutations of epochs 0, 1, 2, … laid end to end.

  Args:
    count: how many examples there are.
    seed: of the permutations, at least 0.
  """

  def __init__(self, count: int, seed: int) -> None:
    self._count = count
    self._seed = _integer('seed', seed, at_least=0)

  def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epoch and the example, `[n]` int32, of ascending positions in the order."""
    epoch, offset = np.divmod(positions, self._count)
    index = np.empty(len(positions), np.int32)
    for e in range(epoch[0], epoch[-1] + 1):
      inside = epoch == e
      index[inside] = _permutation(self._count, self._seed, int(e))[offset[inside]]
    return epoch.astype(np.int32), index


@functools.lru_cache(maxsize=2)  # where one epoch ends and the next begins, both are wanted
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
  rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))
  return rng.permutation(count).astype(np.int32)


class TrainBatches:
  """An endless iterator over shuffled batches; its whole state is the number of the next one.

  The permutations of epochs 0, 1, 2, … are laid end to end and cut into batches. So every batch
  is full, no example is dropped, and a batch may span epochs. Each host takes its contiguous rows
  of the global batch, whatever the number of hosts: a run may resume on another number of them.
  A batch carries `epoch` and `index` because randomness that belongs to an example, such as its
  augmentation, is keyed by (seed, epoch, index) and so does not depend on hosts or batch layout.

  Args:
    examples: what to draw from.
    batch_size: rows of the global batch, over all hosts.
    seed: of the permutations, at least 0.
    process_index: which host this is, in `[0, process_count)`.
    process_count: how many hosts there are; must divide `batch_size`.
    start: the number of the first batch to return.
  Yields: a dict of this host's rows, `rows = batch_size // process_count`:
    `image` `[rows, height, width, channels]` uint8, `label` `[rows]` int32, `epoch` `[rows]` int32,
    and `index` `[rows]` int32, the example's position in `examples`.
  Raises: ValueError naming the argument, its value and what would be right.
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
    """`{'step': n}`, where n is the number of the next batch; the same on every host."""
    return {'step': self._step}

  def restore(self, state: dict[str, Any]) -> None:
    """Continues from a state that `state` returned, here or on another host.

    Raises: ValueError if `state` is not of that form.
    """
    self._step = step_of(state)


def step_of(state: dict[str, Any]) -> int:
  """Returns n of the state `{'step': n}` of an iterator over batches.

  Raises: ValueError if `state` is not of that form.
  """
  if not isinstance(state, dict) or set(state) != {'step'}:
    raise ValueError(f"state must be {{'step': n}} as state() returns it, got {state!r}")
  return _integer("state['step']", state['step'], at_least=0)


def evaluation_batches(
  examples: Examples, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
  """Every example once, in order, in batches of one shape, equally many on each host.

  The last batch is filled up with copies of the last example, of weight 0.

  Args: as for `TrainBatches`.
  Returns: an iterator of dicts of this host's rows, `rows = batch_size // process_count`:
    `image` `[rows, height, width, channels]` uint8, `label` `[rows]` int32, and `weight` `[rows]`
    float32, 1 for an example and 0 for padding.
  Raises: ValueError naming the argument, its value and what would be right; at the call, before
    the first batch is asked for.
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
  """This host's rows of a global batch: [batch_size // process_count], int64."""
  _integer('batch_size', batch_size, at_least=1)
  _integer('process_count', process_count, at_least=1)
  _integer('process_index', process_index, at_least=0)
  if process_index >= process_count:
    raise ValueError(f'process_index={process_index} must be below process_count={process_count}')
  if batch_size % process_count:
    raise ValueError(
      f'batch_size={batch_size} must be divisible by process_count={process_count}: '
      'every host takes equally many rows'
    )
  rows = batch_size // process_count
  return process_index * rows + np.arange(rows, dtype=np.int64)


def _integer(name: str, value: Any, *, at_least: int) -> int:
  try:
    if isinstance(value, bool):
      raise TypeError
    value = operator.index(value)
  except TypeError:
    raise ValueError(f'{name}={value!r} must be an integer, got {type(value).__name__}') from None
  if value < at_least:
    raise ValueError(f'{name}={value} must be at least {at_least}')
  return value
