"""One's own pictures: `folder:PATH`, with a folder for each class.

    PATH/train/CLASS/...   PATH/test/CLASS/...      a folder for each split
    PATH/CLASS/...                                  one tree, whose only split is 'train'

A slice such as 'train[:80%]' has the classes in their proportions, see `tree.read`. A split whose
pixels take at most `IN_MEMORY` bytes is decoded into memory; a larger one is streamed. Either way
every picture is decoded once before the training starts.
"""

import dataclasses
import filecmp
import hashlib
import math
import os
import pathlib
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging
from tqdm import tqdm

from scs_jax.data import cache, crops, images, splits, tree
from scs_jax.data.bad_records import BadRecordError, BadRecords
from scs_jax.data.examples import Examples
from scs_jax.data.sharing import Whole, shared
from scs_jax.errors import ArgumentError

if TYPE_CHECKING:
  from scs_jax.data.records import Records

PREFIX = 'folder:'
IN_MEMORY = 1 << 30  # bytes
_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 4
_CHUNK = 64  # pictures that a thread takes at a time
_REMEDY = 'Repair or remove it'


def load(
  name: str,
  split: str,
  *,
  resolution: int | None = None,
  channels: int | None = None,
  workers: int = 0,
  cache_dir: str | None = None,
  skip_bad_records: int = 0,
) -> 'Examples | Records':
  """Loads a split of a folder of pictures, or opens it for streaming if it is large.

  Args:
    name: `'folder:PATH'`.
    split: in the syntax of TFDS.
    resolution: height and width of the images, pixels; None takes pictures of one size as they are.
    channels: as for `scs_jax.data.load`.
    workers: as for `scs_jax.data.load`.
    cache_dir: as for `scs_jax.data.load`.
    skip_bad_records: as for `scs_jax.data.load`.

  Raises:
    ArgumentError: an argument cannot work, or a file or folder; the message names it.
    BadRecordError: more pictures than are allowed cannot be decoded.
  """
  channels = 3 if channels is None else channels
  if channels not in images.MODES:
    raise ArgumentError(f'data.channels must be 1, 2, 3 or 4, got {channels}')
  if resolution is not None and resolution < 1:
    raise ArgumentError(f'data.resolution must be at least 1, got {resolution}')
  listed = _listed(name, split)
  lengths = {base: [len(pictures.files)] for base, pictures in listed.items()}
  pieces = splits.slices(name, split, lengths)
  classes = next(iter(listed.values())).classes
  most = max(len(listed[base].files) for base, _, _ in pieces)
  if resolution is not None and most * resolution**2 * channels > IN_MEMORY:
    from scs_jax.data import records  # late: importing Grain takes a second

    good = {
      base: _good(listed[base], channels, cache_dir, skip_bad_records)
      for base in {base for base, _, _ in pieces}
    }
    parts = [
      (listed[base], [n for n in range(start, stop) if n in good[base]])
      for base, start, stop in pieces
    ]
    source = _Files.of(parts)
    return records.Records(
      name,
      split,
      source,
      resolution,
      channels,
      len(classes),
      workers,
      classes,
      skip_bad_records,
      source.bad,
      crops.centre,
    )

  def read(base: str) -> Whole:
    return _decoded(listed[base], resolution, channels, cache_dir, skip_bad_records)

  return splits.cut(name, split, len(classes), lengths, read, classes)


# ------------------------------------------------------------------------------------- Listing


def _listed(name: str, split: str) -> dict[str, tree.Split]:
  """Returns the base splits that `split` may mean, all of the same classes."""
  folders = _split_folders(name)
  # TFDS unites all base splits under the name 'all'.
  used = [base for base in folders if base in split and 'all' not in split] or list(folders)
  first = 'train' if 'train' in folders else used[0]
  classes = tree.classes(folders[first])
  listed = {}
  for base in used:
    listed[base] = tree.read(folders[base])
    missing = sorted(set(classes) - set(listed[base].classes))
    more = sorted(set(listed[base].classes) - set(classes))
    if missing or more:
      raise ArgumentError(
        f'{str(folders[base])!r} must have the classes of {str(folders[first])!r}, but it '
        + ' and '.join(
          f'{verb} {names}' for verb, names in (('lacks', missing), ('also has', more)) if names
        )
        + ': make the folders the same. A folder for testing may be empty'
      )
  if 'train' in listed:
    _check_train(listed['train'])
    _warn_of_copies(listed['train'], folders)
  return listed


def _split_folders(name: str) -> dict[str, pathlib.Path]:
  """Returns the folders of the base splits."""
  path = name.removeprefix(PREFIX)
  if not path or '://' in path:
    raise ArgumentError(
      f"data.name={name!r} names no folder of this machine: write 'folder:/home/me/pictures'"
    )
  root = pathlib.Path(os.path.expanduser(path))
  try:
    problem = '' if stat.S_ISDIR(root.stat().st_mode) else 'is not a folder'
  except (FileNotFoundError, ValueError):  # the latter for a null byte
    problem = 'does not exist'
  except OSError as error:
    problem = f'cannot be reached ({error.strerror})'
  if problem:
    raise ArgumentError(
      f'data.name={name!r}: {str(root.absolute())!r} {problem}. It must hold train/CLASS/ and '
      'test/CLASS/, or one folder for each class'
    )
  inside = tree.classes(root)
  if 'train' in inside or 'test' in inside:
    return {base: root / base for base in inside}
  return {'train': root}


def _check_train(train: tree.Split) -> None:
  """Raises ArgumentError unless every class has a picture to train on."""
  if not train.classes:
    raise ArgumentError(
      f'{str(train.folder)!r} has no folder for a class: put the pictures of each class into a '
      'folder with its name'
    )
  used = set(train.labels)
  if empty := [name for label, name in enumerate(train.classes) if label not in used]:
    raise ArgumentError(
      f'the folder {str(train.folder / empty[0])!r} has no picture to train on '
      f'({len(empty)} of {len(train.classes)} classes have none): add some, or remove it'
    )


def _warn_of_copies(train: tree.Split, folders: Mapping[str, pathlib.Path]) -> None:
  """Warns of pictures that are under the same name in `train` and in another split."""
  same: dict[tuple[str, int], list[pathlib.Path]] = {}
  for file in train.files:
    same.setdefault((os.path.basename(file.path), file.size), []).append(train.folder / file.path)
  for base, folder in folders.items():
    if folder == train.folder:
      continue
    others = (pathlib.Path(where, n) for where, _, names in os.walk(folder) for n in names)
    copies = [(copy, other) for other in others for copy in _copies(other, same)]
    if copies:
      logging.warning(
        '%d pictures of %r are also in train, such as %r and %r: results on them say little. '
        'Remove them from one of the two',
        len(copies),
        base,
        *map(str, copies[0]),
      )


def _copies(path: pathlib.Path, same: Mapping[Any, list[pathlib.Path]]) -> list[pathlib.Path]:
  """Returns the files of the same name, size and content."""
  try:
    like = same.get((path.name, path.stat().st_size), []) if path.is_file() else []
    return [other for other in like if filecmp.cmp(path, other, shallow=False)]
  except OSError:  # decoding will name it
    return []


# ------------------------------------------------------------------------------------ Decoding


@dataclasses.dataclass(frozen=True)
class _Files:
  """Encoded pictures, indexed by number. Worker processes get a copy."""

  paths: Sequence[str]
  labels: Sequence[int]

  @classmethod
  def of(cls, parts: Sequence[tuple[tree.Split, Sequence[int]]]) -> '_Files':
    """Joins pictures of several splits, given by their numbers."""
    return cls(
      [str(part.folder / part.files[n].path) for part, numbers in parts for n in numbers],
      [part.labels[n] for part, numbers in parts for n in numbers],
    )

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, number: int) -> dict[str, Any]:
    return {'image': self.read(number), 'label': self.labels[number]}

  def read(self, number: int) -> bytes:
    return pathlib.Path(self.paths[number]).read_bytes()

  def bad(self, number: int, error: Exception) -> BadRecordError:
    what = f'the picture {self.paths[number]!r} cannot be decoded: {images.reason(error)}'
    return BadRecordError(what, _REMEDY)


def _decoded(
  pictures: tree.Split,
  resolution: int | None,
  channels: int,
  cache_dir: str | None,
  skip_bad_records: int,
) -> Whole:
  """Returns all pictures of a base split."""
  files = _Files.of([(pictures, range(len(pictures.files)))])
  labels = np.array(files.labels, np.int32)
  path = _cached(pictures, cache_dir, f'{resolution}x{channels}.npz')
  identity = _identity(pictures)

  def decode(number: int) -> np.ndarray:
    image = images.begin(files.read(number))
    if resolution is None:
      return images.pixels(images.finish(image, channels))
    return images.pixels(crops.centre(image, resolution, channels))

  def decode_all() -> Whole:
    if arrays := cache.read(path, len(files), identity):
      return Whole(*arrays)
    bad, good = BadRecords(len(files), skip_bad_records), []
    array = np.empty((0, 0, 0, 0), np.uint8)
    for number, found in enumerate(_each(decode, files, f'Decoding {pictures.folder}')):
      if isinstance(found, BadRecordError):
        bad.add(number, found)
        continue
      if not good:
        array = _empty(len(files), found.shape, pictures.folder)
      elif found.shape != array.shape[1:]:
        raise ArgumentError(
          f'the pictures {files.paths[good[0]]!r} and {files.paths[number]!r} have different '
          f'shapes, {array.shape[1:]} and {found.shape}: set data.resolution to scale them'
        )
      array[len(good)] = found
      good.append(number)
    if not bad.numbers:  # else another `skip_bad_records` must meet the bad pictures again
      cache.write(path, array, labels, identity)
    return Whole(array[: len(good)], labels[good], bad.numbers)

  return shared((str(path), identity['files'], skip_bad_records), decode_all)


def _empty(count: int, shape: tuple[int, ...], folder: pathlib.Path) -> np.ndarray:
  size = count * math.prod(shape)
  if size > IN_MEMORY:
    raise ArgumentError(
      f'the {count} pictures of {str(folder)!r} take {size / 2**30:.1f} GiB at their own size: set '
      f'data.resolution, which streams what takes more than {IN_MEMORY / 2**30:.0f} GiB'
    )
  return np.empty((count, *shape), np.uint8)


def _good(
  pictures: tree.Split, channels: int, cache_dir: str | None, skip_bad_records: int
) -> set[int]:
  """Returns the numbers of the pictures that can be decoded.

  All are tried, which takes long; a note in the cache saves the next run the trouble.
  """
  files = _Files.of([(pictures, range(len(pictures.files)))])
  path, identity = _cached(pictures, cache_dir, f'{channels}.json'), _identity(pictures)

  def check(number: int) -> None:
    image = images.begin(files.read(number))
    image.draft(image.mode, (1, 1))  # a JPEG is read to its end, and decoded at 1/8 of its size
    images.finish(image, channels)

  problems = cache.recall(path, identity)
  if problems is None:
    tried = enumerate(_each(check, files, f'Checking {pictures.folder}'))
    problems = [[number, error.problem] for number, error in tried if error is not None]
    cache.note(path, identity, problems)
  bad = BadRecords(len(files), skip_bad_records)
  for number, problem in problems:
    bad.add(number, BadRecordError(problem, _REMEDY))
  return set(range(len(files))) - set(bad.numbers)


def _each(work: Callable[[int], Any], files: _Files, title: str) -> Iterator[Any]:
  """Yields `work(number)` for every picture in order, or the error that names the picture."""

  def one(number: int) -> Any:
    try:
      return work(number)
    except Exception as error:  # the decoder raises many classes
      return files.bad(number, error)

  starts = range(0, len(files), _CHUNK)
  some = lambda start: [one(n) for n in range(start, min(start + _CHUNK, len(files)))]
  pool = ThreadPoolExecutor(_THREADS)
  try:
    with tqdm(desc=title, total=len(files), delay=5, leave=False, disable=None) as bar:
      for results in pool.map(some, starts):
        yield from results
        bar.update(len(results))
  finally:
    pool.shutdown(cancel_futures=True)


def _identity(pictures: tree.Split) -> dict[str, Any]:
  """Returns what tells these files from others, and from what they were before a change."""
  files = [dataclasses.astuple(file) for file in pictures.files]
  digest = hashlib.sha256(repr(files).encode()).hexdigest()
  return {'layout': cache.LAYOUT, 'classes': list(pictures.classes), 'files': digest}


def _cached(pictures: tree.Split, cache_dir: str | None, suffix: str) -> pathlib.Path:
  """Returns the file of the cache for a split. It is overwritten when the split has changed."""
  digest = hashlib.sha256(os.fsencode(pictures.folder.absolute())).hexdigest()[:16]
  return cache.folder(cache_dir) / f'folder-{digest}-{suffix}'
