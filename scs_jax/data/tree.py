"""The files of a folder of pictures: which are pictures, of which class, in which order.

A split is a folder with one folder for each class. The pictures of a class may lie in folders of
its own. Links are followed. A file is a picture if its extension says so. Hidden files and folders,
and files with other extensions, are passed over and counted.
"""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator, Sequence

from absl import logging

from scs_jax.data import images
from scs_jax.errors import ArgumentError

# Pictures that are not decoded. To pass them over would leave them out silently.
# fmt: skip keeps the extensions together.
NOT_DECODED = frozenset((
  '.ai', '.arw', '.cr2', '.cr3', '.dng', '.emf', '.eps', '.heic', '.heif', '.hif', '.jxl', '.nef',
  '.orf', '.ps', '.raf', '.rw2', '.svg', '.wmf', '.xcf',
))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class File:
  """A picture.

  Attributes:
    path: inside the folder of the split, 'CLASS/.../NAME'.
    size: bytes.
    time: of the last change, nanoseconds.
  """

  path: str
  size: int
  time: int


@dataclasses.dataclass(frozen=True)
class Split:
  """The pictures of one split.

  Attributes:
    folder: of the split.
    classes: the names of the folders of classes, sorted.
    files: the pictures, in an order of which every slice has the classes in their proportions.
    labels: the number of the class of each picture.
  """

  folder: pathlib.Path
  classes: tuple[str, ...]
  files: Sequence[File]
  labels: Sequence[int]


def classes(folder: pathlib.Path) -> list[str]:
  """Returns the names of the folders in `folder` that are not hidden, sorted.

  Raises:
    ArgumentError: a name cannot be that of a class: it is blank, or not UTF-8.
  """
  names = [e.name for e in _entries(folder) if not e.name.startswith('.') and _is_folder(e)]
  for name in names:
    if not name.strip() or name.encode(errors='replace') != os.fsencode(name):
      raise ArgumentError(
        f'the folder {name!r} in {str(folder)!r} names a class, but it is blank or not UTF-8: '
        'rename it'
      )
  return names


def read(folder: pathlib.Path) -> Split:
  """Lists a split.

  Within a class the pictures are ordered by the SHA-256 of their paths. The classes are then mixed
  evenly. The order depends on nothing but the paths, and a file that is added moves few others.

  Args:
    folder: of the split.

  Raises:
    ArgumentError: naming the file or folder that cannot be read, or that has no class.
  """
  passed: collections.Counter[str] = collections.Counter()
  found: dict[str, list[File]] = {}  # in the order of their names
  for entry in _entries(folder):
    if entry.name.startswith('.'):
      passed['hidden'] += 1
    elif _is_folder(entry):
      found[entry.name] = list(_pictures(entry.path, entry.name, passed))
    elif _is_picture(entry.name):
      raise ArgumentError(
        f'the picture {entry.path!r} is in no class: move it into a folder named for its class. '
        'The folders train and test are splits, not classes'
      )
    else:
      passed[_kind(entry.name)] += 1
  if passed:
    kinds = ', '.join(f'{count} {kind}' for kind, count in sorted(passed.items()))
    _say(f'{str(folder)!r}: passed over what is no picture: {kinds}')
  order = []
  for label, files in enumerate(found.values()):
    shuffled = sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())
    order += [((i + 0.5) / len(files), label, file) for i, file in enumerate(shuffled)]
  order.sort(key=lambda item: item[:2])
  labels, pictures = [label for _, label, _ in order], [file for *_, file in order]
  return Split(folder, tuple(found), pictures, labels)


@functools.cache  # once, however often the folder is listed
def _say(message: str) -> None:
  logging.warning('%s', message)


def _pictures(folder: str, path: str, passed: collections.Counter[str]) -> Iterator[File]:
  """Yields the pictures under `folder`, whose path inside the split is `path`."""
  waiting = [(folder, path, frozenset([os.path.realpath(folder)]))]
  while waiting:
    folder, path, above = waiting.pop()
    for entry in _entries(folder):
      inside = f'{path}/{entry.name}'
      if entry.name.startswith('.'):
        passed['hidden'] += 1
      elif _is_folder(entry):
        real = os.path.realpath(entry.path)
        if real in above:
          raise ArgumentError(f'the link {entry.path!r} leads back to {real!r}: remove it')
        waiting.append((entry.path, inside, above | {real}))
      elif _is_picture(entry.name):
        yield _file(entry, inside)
      else:
        passed[_kind(entry.name)] += 1


def _entries(folder: str | os.PathLike) -> list[os.DirEntry]:
  try:
    with os.scandir(folder) as entries:
      return sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    raise ArgumentError(
      f'the folder {str(folder)!r} cannot be read: {error.strerror}. Make it readable or remove it'
    ) from error


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError as error:  # a link that leads to itself
    raise ArgumentError(f'{entry.path!r} cannot be read: {error.strerror}. Remove it') from error


def _is_picture(name: str) -> bool:
  """Whether a file is a picture by its extension."""
  return os.path.splitext(name)[1].lower() in images.extensions() | NOT_DECODED


def _kind(name: str) -> str:
  """Returns a word for files that are passed over."""
  return os.path.splitext(name)[1].lower() or 'without an extension'


def _file(entry: os.DirEntry, path: str) -> File:
  if os.path.splitext(entry.name)[1].lower() in NOT_DECODED:
    raise ArgumentError(
      f'the picture {entry.path!r} has a format that is not decoded here: convert it to PNG or '
      'JPEG, or move it away'
    )
  try:
    found = entry.stat()
  except OSError as error:
    raise ArgumentError(
      f'the picture {entry.path!r} cannot be read: {error.strerror}. Is it a link that leads '
      'nowhere? Repair or remove it'
    ) from error
  if not stat.S_ISREG(found.st_mode):
    raise ArgumentError(f'{entry.path!r} is named like a picture but is no file: remove it')
  return File(path, found.st_size, found.st_mtime_ns)
