"""Data sets that TFDS has prepared, and splits in the syntax of TFDS.

A data set that fits in memory is decoded once and cached as arrays. Drawing batches from an array
is orders of magnitude faster than decoding each image again in each epoch. TensorFlow is never
imported: TFDS reads array_record files without it.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from scs_jax.data import cache
from scs_jax.data.examples import Examples
from scs_jax.errors import ArgumentError, MissingPackageError

DECODE_CHUNK = 1000  # records per read; batched reads are three times faster than single ones


def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  cache_dir: str | None = None,
  other_names: Iterable[str] = (),
) -> Examples:
  """Loads a split of a prepared data set into memory.

  Args:
    name: a name for TFDS.
    split: a split in the syntax of TFDS.
    data_dir: as for `scs_jax.data.load`.
    cache_dir: as for `scs_jax.data.load`.
    other_names: further names to suggest if `name` is unknown.

  Raises:
    ArgumentError: as `scs_jax.data.load`.
    MissingPackageError: TFDS is not installed.
  """
  prepared = builder(name, data_dir, other_names)
  info = prepared.info

  def read(base: str) -> tuple[np.ndarray, np.ndarray]:
    identity = cache.identity(info, base)
    path = cache.folder(cache_dir) / cache.file_name(identity)
    arrays = cache.read(path, info.splits[base].num_examples)
    if arrays is None:
      arrays = decode(name, data_source(name, prepared, base, data_dir))
      cache.write(path, *arrays, identity)
    return arrays

  shard_lengths = {base: split_info.shard_lengths for base, split_info in info.splits.items()}
  return cut(name, split, info.features['label'].num_classes, shard_lengths, read)


def cut(
  name: str,
  split: str,
  num_classes: int,
  shard_lengths: Mapping[str, Sequence[int]],
  read: Callable[[str], tuple[np.ndarray, np.ndarray]],
) -> Examples:
  """Returns a split in the syntax of TFDS, cut from the base splits of a data set.

  Args:
    name: of the data set, for error messages.
    split: for example `'train[:90%]'`.
    num_classes: the number of classes of the data set.
    shard_lengths: the number of examples in each file of each base split.
    read: returns all images and labels of a base split.

  Raises:
    ArgumentError: the split is unknown, misspelt or empty, or a label is outside the classes.
  """
  slices = _slices(name, split, shard_lengths)
  whole = {base: read(base) for base in {base for base, _, _ in slices}}
  parts = [(whole[base][0][start:stop], whole[base][1][start:stop]) for base, start, stop in slices]
  images, labels = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
  try:
    return Examples(images, labels, num_classes)
  except ArgumentError as error:
    error.add_note(f'This is split={split!r} of the data set name={name!r}.')
    raise


def _slices(
  name: str, split: str, shard_lengths: Mapping[str, Sequence[int]]
) -> list[tuple[str, int, int]]:
  """Translates a split to slices `(base split, start, stop)`, none of them empty."""
  sizes = {base: sum(lengths) for base, lengths in shard_lengths.items()}
  if split in sizes:  # this common case does not need TFDS
    slices = [(split, 0, sizes[split])]
  else:
    core = import_tfds().core
    infos = {
      base: core.SplitInfo(name=base, shard_lengths=list(lengths), num_bytes=0)
      for base, lengths in shard_lengths.items()
    }
    try:
      absolute = core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
      raise ArgumentError(
        f'split={split!r} cannot be read from the data set {name!r}. Its splits and their sizes '
        f"are {sizes}. Write for example 'train' or 'train[:90%]'. TFDS says: {error}"
      ) from None
    slices = [
      (s.splitname, s.from_ or 0, sizes[s.splitname] if s.to is None else s.to) for s in absolute
    ]
  slices = [s for s in slices if s[1] < s[2]]
  if not slices:
    raise ArgumentError(
      f'split={split!r} of the data set {name!r} is empty. Its splits and their sizes are {sizes}. '
      'Choose a slice with at least one example'
    )
  return slices


def builder(name: str, data_dir: str | None, other_names: Iterable[str] = ()) -> Any:
  """Returns the TFDS builder of a prepared data set for image classification.

  Args:
    name: a name for TFDS.
    data_dir: the folder of prepared data sets; None is the default of TFDS.
    other_names: further names to suggest if `name` is unknown.

  Raises:
    ArgumentError: the data set is unknown, not prepared, or not for image classification.
    MissingPackageError: TFDS is not installed.
  """
  found = _find(name, data_dir, other_names)
  if not found.info.splits:
    raise ArgumentError(
      f'data.name={name!r} is not prepared in {found.data_dir} (data.data_dir={data_dir!r}). '
      f'{_how_to_prepare(name, data_dir)}'
    )
  _check_features(name, found.info.features)
  return found


def _how_to_prepare(name: str, data_dir: str | None) -> str:
  option = f' --data_dir={data_dir}' if data_dir else ''
  return (
    "Prepare it once: pip install 'scs-jax[prepare]', then "
    f'tfds build {name} --file_format=array_record{option}. '
    "Or choose 'mnist5k', which needs no download"
  )


def _find(name: str, data_dir: str | None, other_names: Iterable[str]) -> Any:
  tfds = import_tfds()
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    known = [*other_names, *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(name.split(':')[0].split('/')[0], known, n=5)
    raise ArgumentError(
      f'data.name={name!r} is not a known data set, and none is prepared under this name '
      f'(data.data_dir={data_dir!r}). The nearest known names are {near or known[:2]}'
    ) from None
  except (AssertionError, ValueError) as error:  # a version, configuration or spelling
    raise ArgumentError(
      f"TFDS refuses data.name={name!r}. Write NAME, NAME:VERSION or NAME/CONFIG, such as 'mnist'. "
      f'TFDS says: {error}'
    ) from error


def _check_features(name: str, features: Mapping[str, Any]) -> None:
  tfds = import_tfds()
  wanted = {'image': tfds.features.Image, 'label': tfds.features.ClassLabel}
  for key, kind in wanted.items():
    if key not in features or not isinstance(features[key], kind):
      raise ArgumentError(
        f'data.name={name!r} has no feature {key!r} of type {kind.__name__}. Its features are '
        f'{dict(features)}. Choose a data set for image classification'
      )
  if features['image'].np_dtype != np.uint8:
    raise ArgumentError(
      f'data.name={name!r} has images of type {np.dtype(features["image"].np_dtype)}. '
      'Choose a data set with uint8 images'
    )


def data_source(
  name: str, builder: Any, split: str, data_dir: str | None, **options: Any
) -> Sequence[Any]:
  """Returns the records of a split, indexed by number.

  Args:
    name: of the data set, for error messages.
    builder: the TFDS builder of the data set.
    split: a split in the syntax of TFDS.
    data_dir: the folder of prepared data sets, for error messages.
    **options: further arguments of the builder's `as_data_source`.

  Raises:
    ArgumentError: the data set is prepared in a format that needs TensorFlow.
  """
  try:
    return builder.as_data_source(split, **options)
  except NotImplementedError as error:
    raise ArgumentError(
      f'data.name={name!r} in {builder.data_dir} is prepared as '
      f'{builder.info.file_format.value}, which cannot be read without TensorFlow. Move that '
      f'folder away. {_how_to_prepare(name, data_dir)}'
    ) from error


def decode(name: str, records: Any) -> tuple[np.ndarray, np.ndarray]:
  """Decodes all records of a split, in one thread.

  Decoding small images is mostly Python code, so two threads are slower than one.

  Args:
    name: of the data set, for messages.
    records: the result of `data_source`, with at least one record.

  Returns:
    images `[n, height, width, channels]` uint8 and labels `[n]` int32.

  Raises:
    ArgumentError: the images have different sizes.
  """
  images = np.empty((len(records), *records[0]['image'].shape), np.uint8)
  labels = np.empty(len(records), np.int32)
  for start in range(0, len(records), DECODE_CHUNK):
    logging.log_every_n_seconds(
      logging.INFO, 'Decoding %s: %d of %d images', 5, name, start, len(records)
    )
    stop = min(start + DECODE_CHUNK, len(records))
    for i, record in enumerate(records.__getitems__(range(start, stop)), start):
      image = record['image']
      if image.shape != images.shape[1:]:
        raise ArgumentError(
          f'data.name={name!r} has images of different sizes, {images.shape[1:]} and '
          f'{image.shape}, and does not fit in one array. Set data.resolution to stream it'
        )
      images[i], labels[i] = image, record['label']
  return images, labels


def import_tfds() -> Any:
  """Imports TFDS, which takes a second, when it is first needed.

  Raises:
    MissingPackageError: TFDS is not installed.
  """
  try:
    import tensorflow_datasets
  except ImportError as error:
    raise MissingPackageError(
      f"tensorflow_datasets cannot be imported ({error}); run: pip install 'scs-jax[train]'"
    ) from error
  return tensorflow_datasets
