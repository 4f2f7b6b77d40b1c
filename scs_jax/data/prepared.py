"""Data sets that TFDS has prepared.

A data set that fits in memory is decoded once and cached as arrays. Drawing batches from an array
is orders of magnitude faster than decoding each image again in each epoch. TensorFlow is never
imported: TFDS reads array_record files without it, and `images` decodes what they hold.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from scs_jax.data import cache, images, splits
from scs_jax.data.bad_records import BadRecordError, BadRecords
from scs_jax.data.examples import Examples
from scs_jax.data.sharing import Whole, shared
from scs_jax.data.tfds import import_tfds
from scs_jax.errors import ArgumentError

DECODE_CHUNK = 1000  # records per read; batched reads are three times faster than single ones


def load(
  name: str,
  split: str,
  *,
  data_dir: str | None = None,
  cache_dir: str | None = None,
  skip_bad_records: int = 0,
  other_names: Iterable[str] = (),
) -> Examples:
  """Loads a split of a prepared data set into memory.

  Args:
    name: a name for TFDS.
    split: a split in the syntax of TFDS.
    data_dir: as for `scs_jax.data.load`.
    cache_dir: as for `scs_jax.data.load`.
    skip_bad_records: as for `scs_jax.data.load`.
    other_names: further names to suggest if `name` is unknown.

  Raises:
    ArgumentError: as `scs_jax.data.load`.
    MissingPackageError: TFDS is not installed.
  """
  prepared = builder(name, data_dir, other_names)
  info = prepared.info

  def read(base: str) -> Whole:
    identity = cache.identity(info, base)
    path = cache.folder(cache_dir) / cache.file_name(identity)

    def decoded() -> Whole:
      if arrays := cache.read(path, info.splits[base].num_examples):
        return Whole(*arrays)
      records = data_source(name, prepared, base, data_dir)
      whole = decode(name, base, records, channels(name, prepared), skip_bad_records)
      if not whole.bad:  # else another `skip_bad_records` must meet the bad records again
        cache.write(path, whole.images, whole.labels, identity)
      return whole

    return shared((str(path), skip_bad_records), decoded)

  shard_lengths = {base: split_info.shard_lengths for base, split_info in info.splits.items()}
  label = info.features['label']
  return splits.cut(name, split, label.num_classes, shard_lengths, read, class_names(prepared))


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


def sizes(
  name: str, *, data_dir: str | None, resolution: int | None, other_names: Iterable[str] = ()
) -> dict[str, Any] | None:
  """Returns `input_shape` and `num_classes` as TFDS declares them, whether prepared or not.

  Args:
    name: a name for TFDS.
    data_dir: as for `scs_jax.data.load`.
    resolution: as for `scs_jax.data.load`.
    other_names: further names to suggest if `name` is unknown.

  Returns:
    None if the images have no declared size, and none is given by `resolution`.

  Raises:
    ArgumentError: the data set is unknown, or not for image classification.
    MissingPackageError: TFDS is not installed.
  """
  found = _find(name, data_dir, other_names)
  _check_features(name, found.info.features)
  shape = tuple(found.info.features['image'].shape)
  if resolution is not None:
    shape = (resolution, resolution, channels(name, found))
  if None in shape:
    return None
  return {'input_shape': shape, 'num_classes': found.info.features['label'].num_classes}


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
  except ImportError as error:  # TFDS defines some data sets with packages of their own
    raise ArgumentError(
      f'data.name={name!r} cannot be opened, because TFDS defines it with a package that is not '
      f'installed ({error}): choose another data set, or install the package'
    ) from error
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


def channels(name: str, builder: Any) -> int:
  """Returns the number of channels of the images.

  Raises:
    ArgumentError: the images have none, or another number than a picture has.
  """
  shape = builder.info.features['image'].shape
  if len(shape) != 3 or shape[-1] not in images.MODES:
    raise ArgumentError(
      f'data.name={name!r} has images of shape {shape}. Choose a data set whose images are '
      '(height, width, channels), with 1 to 4 channels'
    )
  return shape[-1]


def class_names(builder: Any) -> tuple[str, ...] | None:
  """Returns the names of the classes, or None if they are only numbered."""
  names = tuple(builder.info.features['label'].names)
  return None if names == tuple(map(str, range(len(names)))) else names


def data_source(name: str, builder: Any, split: str, data_dir: str | None) -> Sequence[Any]:
  """Returns the records of a split, indexed by number: `image` is encoded, `label` an integer.

  Args:
    name: of the data set, for error messages.
    builder: the TFDS builder of the data set.
    split: a split in the syntax of TFDS.
    data_dir: the folder of prepared data sets, for error messages.

  Raises:
    ArgumentError: the data set is prepared in a format that needs TensorFlow.
  """
  decoders = {'image': import_tfds().decode.SkipDecoding()}
  try:
    return builder.as_data_source(split, decoders=decoders)
  except NotImplementedError as error:
    raise ArgumentError(
      f'data.name={name!r} in {builder.data_dir} is prepared as '
      f'{builder.info.file_format.value}, which cannot be read without TensorFlow. Move that '
      f'folder away. {_how_to_prepare(name, data_dir)}'
    ) from error


def decode(name: str, split: str, records: Any, channels: int, skip_bad_records: int = 0) -> Whole:
  """Decodes all records of a split, in one thread.

  Decoding small images is mostly Python code, so two threads are slower than one.

  Args:
    name: of the data set, for messages.
    split: the base split, for messages.
    records: the result of `data_source`, with at least one record.
    channels: of the images.
    skip_bad_records: as for `scs_jax.data.load`.

  Raises:
    ArgumentError: the images have different sizes.
    BadRecordError: more records are bad than are allowed.
  """
  bad = BadRecords(len(records), skip_bad_records)
  pictures, labels, count = np.empty((0, 0, 0, 0), np.uint8), np.empty(len(records), np.int32), 0
  for start in range(0, len(records), DECODE_CHUNK):
    logging.log_every_n_seconds(
      logging.INFO, 'Decoding %s: %d of %d images', 5, name, start, len(records)
    )
    stop = min(start + DECODE_CHUNK, len(records))
    for number, record in zip(range(start, stop), _chunk(records, start, stop), strict=True):
      try:
        if isinstance(record, Exception):
          raise record
        image = images.decode(record['image'], channels)
      except Exception as error:  # the reader and the decoder raise many classes
        bad.add(number, bad_record(name, split, number, error))
        continue
      if not count:
        pictures = np.empty((len(records), *image.shape), np.uint8)
      elif image.shape != pictures.shape[1:]:
        raise ArgumentError(
          f'data.name={name!r} has images of different sizes, {pictures.shape[1:]} and '
          f'{image.shape}, and does not fit in one array. Set data.resolution to stream it'
        )
      pictures[count], labels[count] = image, record['label']
      count += 1
  return Whole(pictures[:count], labels[:count], bad.numbers)


def _chunk(records: Any, start: int, stop: int) -> Sequence[Any]:
  """Returns the records of a range; one that cannot be read is its error."""

  def single(number: int) -> Any:
    try:
      return records[number]
    except Exception as error:
      return error

  try:
    return records.__getitems__(range(start, stop))
  except Exception:  # a file is damaged: which records?
    return [single(number) for number in range(start, stop)]


def bad_record(name: str, split: str, number: int, error: Exception) -> BadRecordError:
  """Returns the error that names a record which cannot be read or decoded."""
  what = f'record {number} of {name}, split {split!r}, cannot be decoded: {images.reason(error)}'
  return BadRecordError(what, 'Its file is damaged: prepare the data set again')
