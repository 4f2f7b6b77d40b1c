"""Where examples come from, how a batch is made, and how it is augmented."""

from collections.abc import Iterator
from typing import Any

from scs_jax.data import augment, batches
from scs_jax.data import examples as sources
from scs_jax.data.examples import Examples

__all__ = ['augment', 'batches', 'evaluation_batches', 'load', 'sources', 'train_batches']


def load(
  name: str, split: str, *, data_dir: str | None, resolution: int | None, workers: int
) -> Any:
  """Loads a split into memory, or opens it to be streamed if `resolution` is given.

  Returns:
    `sources.Examples` or `records.Records`; both have `size`, `image_shape` and `num_classes`.

  Raises:
    ValueError: as `sources.load` and `records.load`.
  """
  if resolution is None:
    return sources.load(name, split, data_dir=data_dir)
  return _records().load(name, split, data_dir=data_dir, resolution=resolution, workers=workers)


def train_batches(examples, batch_size: int, *, seed: int, **host) -> Iterator:
  """Returns the iterator over training batches that goes with what `load` returned."""
  module = batches if isinstance(examples, sources.Examples) else _records()
  return module.TrainBatches(examples, batch_size, seed=seed, **host)


def evaluation_batches(examples, batch_size: int, **host) -> Iterator:
  """Returns an iterator over every example of what `load` returned, once."""
  module = batches if isinstance(examples, sources.Examples) else _records()
  return module.evaluation_batches(examples, batch_size, **host)


def _records():
  from scs_jax.data import records  # late: Grain takes a second to import

  return records
