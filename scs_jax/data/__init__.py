"""Data sets, batches and augmentation.

A data set is in memory (`Examples`) or streamed from disk (`records.Records`). `load` returns
either, and `train_batches` and `evaluation_batches` take either. `images` says what becomes of a
picture, `folder` and `npz` how to bring one's own.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from scs_jax import own
from scs_jax.data import augment, batches, embedded, folder, images, npz, prepared, splits
from scs_jax.data.examples import Examples
from scs_jax.data.sharing import Whole, shared
from scs_jax.errors import ArgumentError

if TYPE_CHECKING:
  from scs_jax.data import records

__all__ = [
  'EMBEDDED',
  'GIVEN',
  'Examples',
  'augment',
  'batches',
  'evaluation_batches',
  'folder',
  'images',
  'load',
  'npz',
  'sizes',
  'train_batches',
]

# The registry of data sets that need no download: name -> function that returns all splits, and
# the number of classes. Other names are the user's own data, or a data set of TFDS.
EMBEDDED: dict[str, tuple[Callable[[], embedded.Splits], int]] = {
  'mnist5k': (embedded.mnist5k, 10),
  'fake': (embedded.fake, 10),
}


# Stands in a config for examples that were given in Python.
GIVEN = 'examples'


@overload
def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  resolution: None = None,
  channels: int | None = None,
  workers: int = 0,
  cache_dir: str | None = None,
  skip_bad_records: int = 0,
) -> Examples: ...
@overload
def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  resolution: int | None,
  channels: int | None = None,
  workers: int = 0,
  cache_dir: str | None = None,
  skip_bad_records: int = 0,
) -> 'Examples | records.Records': ...
def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  resolution: int | None = None,
  channels: int | None = None,
  workers: int = 0,
  cache_dir: str | None = None,
  skip_bad_records: int = 0,
) -> 'Examples | records.Records':
  """Loads a split into memory, or opens it for streaming.

  Args:
    name: one of
      - `'mnist5k'`: 5,000 real MNIST images, see `embedded.mnist5k`;
      - `'fake'`: synthetic 32×32×3 images, see `embedded.fake`;
      - `'folder:PATH'`: your own pictures in `PATH/train/CLASS/` and `PATH/test/CLASS/`, see
        `folder`;
      - `'npz:FILE'`: your own arrays, see `npz`;
      - `'my_module:load'`: your own function `load(split: str) -> Examples` in `my_module.py`;
      - a name for TFDS, such as `'fashion_mnist'` or `'cifar10:3.0.2'`.
    split: a split in the syntax of TFDS: `'train'`, `'test'`, `'train[:90%]'`, `'train[-1000:]'`,
      `'train+test'`. Your own function receives the string unchanged.
    data_dir: the folder of prepared data sets; None is `$TFDS_DATA_DIR`, or else
      `~/tensorflow_datasets`.
    resolution: height and width of the images, pixels. A data set of TFDS is streamed then, and
      cropped at random to train. A folder is scaled, and streamed only if it is large. None loads
      images into memory at their own size.
    channels: of the pictures of a folder: 1 grey, 2 grey and alpha, 3 RGB (the default), 4 RGB and
      alpha. Other data sets have their own.
    workers: the number of processes that decode streamed images; 0 decodes in threads.
    cache_dir: the folder of decoded splits, one file each; None is `$XDG_CACHE_HOME/scs_jax`, or
      else `~/.cache/scs_jax`. If the folder is not writable, `load` logs a warning and the next
      `load` decodes again.
    skip_bad_records: how many records of a base split may be left out because they cannot be
      decoded, and how many of a streamed split on each host. `load`, or the batch that meets one,
      logs a warning for each. In memory they are dropped. In a stream they keep their numbers, see
      `records`.

  Returns:
    `Examples`, or `records.Records` if it is streamed. Both have `size`, `image_shape`,
    `num_classes` and `class_names`. Examples are in the data set's own order, on every host and in
    every run. Slices of one split share its images, which cannot be written to.

  Raises:
    ArgumentError: the data set is unknown, not prepared, or not made of labelled uint8 images; the
      split is unknown, misspelt or empty; a label is outside the classes; images in memory have
      different sizes; your own function does not exist or does not return `Examples`; a file or
      folder of yours cannot be read.
    bad_records.BadRecordError: more records than are allowed cannot be decoded.
    MissingPackageError: a package of the extra `[train]` is not installed.

  Example:
    >>> from scs_jax import data
    >>> examples = data.load('fake', 'test')
    >>> examples.images.shape, examples.num_classes
    ((100, 32, 32, 3), 10)
  """
  if name.startswith(folder.PREFIX):
    return folder.load(
      name,
      split,
      resolution=resolution,
      channels=channels,
      workers=workers,
      cache_dir=cache_dir,
      skip_bad_records=skip_bad_records,
    )
  users = _is_users(name)
  in_memory = users or name in EMBEDDED or name.startswith(npz.PREFIX)
  _check(name, in_memory=in_memory, resolution=resolution, channels=channels)
  if resolution is not None:
    from scs_jax.data import records  # late: importing Grain takes a second

    return records.load(
      name,
      split,
      data_dir=data_dir,
      resolution=resolution,
      workers=workers,
      skip_bad_records=skip_bad_records,
    )
  if name.startswith(npz.PREFIX):
    return npz.load(name, split)
  if users:
    return _call(name, split)
  if name in EMBEDDED:
    return _embedded(name, split)
  return prepared.load(
    name,
    split,
    data_dir=data_dir,
    cache_dir=cache_dir,
    skip_bad_records=skip_bad_records,
    other_names=EMBEDDED,
  )


def sizes(
  name: str, *, data_dir: str | None = None, resolution: int | None = None
) -> dict[str, Any] | None:
  """Returns `input_shape` and `num_classes` of a data set of TFDS, without its images.

  None if the images must be loaded to know it, as those of a folder must.

  Raises:
    ArgumentError: the data set is unknown, or not for image classification.
    MissingPackageError: TFDS is not installed.

  Example:
    >>> from scs_jax import data
    >>> data.sizes('cifar10')
    {'input_shape': (32, 32, 3), 'num_classes': 10}
  """
  if name in (*EMBEDDED, GIVEN) or name.startswith((folder.PREFIX, npz.PREFIX)) or _is_users(name):
    return None
  return prepared.sizes(name, data_dir=data_dir, resolution=resolution, other_names=EMBEDDED)


def _is_users(name: str) -> bool:
  """Whether a function of the user is named; a version, such as 3.0.2, is no identifier."""
  return name.partition(':')[2].isidentifier()


def _check(name: str, *, in_memory: bool, resolution: int | None, channels: int | None) -> None:
  """Raises ArgumentError if the data set cannot be loaded with these arguments."""
  if name == GIVEN:
    raise ArgumentError(
      f'data.name={name!r} stands for arrays that were given in Python, and they are stored '
      'nowhere. Give them again: Experiment(config, train=..., test=...)'
    )
  if channels is not None:
    raise ArgumentError(
      f"data.channels={channels} is for 'folder:PATH' only, but data.name={name!r}, which has its "
      'own number of channels; set data.channels=None'
    )
  if in_memory and resolution is not None:
    raise ArgumentError(
      f'data.name={name!r} is loaded into memory and cannot be streamed, '
      f'but data.resolution={resolution}; set data.resolution=None'
    )


def _embedded(name: str, split: str) -> Examples:
  make, num_classes = EMBEDDED[name]
  made = make()
  lengths = {base: [len(labels)] for base, (_, labels) in made.items()}
  read = lambda base: shared((name, base), lambda: Whole(*made[base]))
  return splits.cut(name, split, num_classes, lengths, read)


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
  try:
    inspect.signature(function).bind(split)
  except (TypeError, ValueError) as error:  # the latter for some functions in C
    raise ArgumentError(
      f'data.name={name!r} must name a function of the split alone ({error}). Define it as: def '
      f'{function_name}(split: str) -> scs_jax.data.Examples'
    ) from error
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
