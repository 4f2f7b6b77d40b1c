"""Data sets, batches and augmentation.

A data set is in memory (`Examples`) or streamed from disk (`records.Records`). `load` returns
either, and `train_batches` and `evaluation_batches` take either.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, overload

import numpy as np

from scs_jax import own
from scs_jax.data import augment, batches, embedded, prepared
from scs_jax.data.examples import Examples
from scs_jax.errors import ArgumentError

if TYPE_CHECKING:
  from scs_jax.data import records

__all__ = [
  'EMBEDDED',
  'Examples',
  'augment',
  'batches',
  'evaluation_batches',
  'load',
  'train_batches',
]

# The registry of data sets that need no download: name -> function that returns all splits, and
# the number of classes. Every other name is the user's own function or a data set of TFDS.
EMBEDDED: dict[str, tuple[Callable[[], embedded.Splits], int]] = {
  'mnist5k': (embedded.mnist5k, 10),
  'fake': (embedded.fake, 10),
}


@overload
def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  resolution: None = None,
  workers: int = 0,
  cache_dir: str | None = None,
) -> Examples: ...
@overload
def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  resolution: int,
  workers: int = 0,
  cache_dir: str | None = None,
) -> 'records.Records': ...
def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  resolution: int | None = None,
  workers: int = 0,
  cache_dir: str | None = None,
) -> 'Examples | records.Records':
  """Loads a split into memory, or opens it for streaming if `resolution` is given.

  Args:
    name: one of
      - `'mnist5k'`: 5,000 real MNIST images, see `embedded.mnist5k`;
      - `'fake'`: synthetic 32×32×3 images, see `embedded.fake`;
      - `'my_module:load'`: your own function `load(split: str) -> Examples` in `my_module.py`;
      - a name for TFDS, such as `'fashion_mnist'` or `'cifar10:3.0.2'`.
    split: a split in the syntax of TFDS: `'train'`, `'test'`, `'train[:90%]'`, `'train[-1000:]'`,
      `'train+test'`. Your own function receives the string unchanged.
    data_dir: the folder of prepared data sets; None is `$TFDS_DATA_DIR`, or else
      `~/tensorflow_datasets`.
    resolution: height and width of streamed images after cropping, pixels; None loads the split
      into memory. Only data sets of TFDS can be streamed.
    workers: the number of processes that decode streamed images; 0 decodes in threads.
    cache_dir: the folder of decoded splits, one file each; None is `$XDG_CACHE_HOME/scs_jax`, or
      else `~/.cache/scs_jax`. If the folder is not writable, `load` logs a warning and the next
      `load` decodes again.

  Returns:
    `Examples`, or `records.Records` if `resolution` is given. Both have `size`, `image_shape` and
    `num_classes`. Examples are in the data set's own order, on every host and in every run.

  Raises:
    ArgumentError: the data set is unknown, not prepared, or not made of labelled uint8 images; the
      split is unknown, misspelt or empty; a label is outside the classes; images in memory have
      different sizes; your own function does not exist or does not return `Examples`.
    MissingPackageError: a package of the extra `[train]` is not installed.

  Example:
    >>> from scs_jax import data
    >>> examples = data.load('fake', 'test')
    >>> examples.images.shape, examples.num_classes
    ((100, 32, 32, 3), 10)
  """
  users = name.partition(':')[2].isidentifier()  # a version, such as 3.0.2, is no identifier
  if resolution is not None:
    if users or name in EMBEDDED:
      raise ArgumentError(
        f'data.name={name!r} is loaded into memory and cannot be streamed, '
        f'but data.resolution={resolution}; set data.resolution=None'
      )
    from scs_jax.data import records  # late: importing Grain takes a second

    return records.load(name, split, data_dir=data_dir, resolution=resolution, workers=workers)
  if users:
    return _call(name, split)
  if name in EMBEDDED:
    make, num_classes = EMBEDDED[name]
    splits = make()
    lengths = {base: [len(labels)] for base, (_, labels) in splits.items()}
    return prepared.cut(name, split, num_classes, lengths, splits.__getitem__)
  return prepared.load(name, split, data_dir=data_dir, cache_dir=cache_dir, other_names=EMBEDDED)


def _call(name: str, split: str) -> Examples:
  """Calls the user's own function. Errors that it raises keep their traceback."""
  function_name = name.partition(':')[2]
  function = own.find(
    'data.name',
    name,
    'function',
    f'Define it as: def {function_name}(split: str) -> scs_jax.data.Examples. A data set of TFDS '
    "is written NAME or NAME:VERSION, such as 'cifar10:3.0.2'",
  )
  if not callable(function):
    raise ArgumentError(
      f'data.name={name!r} must name a function of the split that returns scs_jax.data.Examples, '
      f'got {function!r}'
    )
  examples = function(split)
  if not isinstance(examples, Examples):
    raise ArgumentError(
      f'data.name={name!r} must return scs_jax.data.Examples, but for split={split!r} it returned '
      f'{type(examples).__name__}. Return Examples(images, labels, num_classes)'
    )
  return examples


def train_batches(
  examples: 'Examples | records.Records',
  batch_size: int,
  *,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> 'batches.TrainBatches | records.TrainBatches':
  """Returns an endless iterator over shuffled training batches, see `batches.TrainBatches`.

  Example:
    >>> from scs_jax import data
    >>> batch = next(data.train_batches(data.load('fake', 'train'), 8, seed=0))
    >>> batch['image'].shape, batch['label'].shape
    ((8, 32, 32, 3), (8,))
  """
  host = {'process_index': process_index, 'process_count': process_count}
  if isinstance(examples, Examples):
    return batches.TrainBatches(examples, batch_size, seed=seed, **host)
  from scs_jax.data import records  # late: importing Grain takes a second

  return records.TrainBatches(examples, batch_size, seed=seed, **host)


def evaluation_batches(
  examples: 'Examples | records.Records',
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Returns an iterator over all examples once, in order; see `batches.evaluation_batches`."""
  host = {'process_index': process_index, 'process_count': process_count}
  if isinstance(examples, Examples):
    return batches.evaluation_batches(examples, batch_size, **host)
  from scs_jax.data import records  # late: importing Grain takes a second

  return records.evaluation_batches(examples, batch_size, **host)
