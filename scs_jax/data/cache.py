"""The cache of decoded splits: one uncompressed npz file each; and notes in JSON.

A file is written under a temporary name and then renamed. Renaming is atomic, so two processes may
write the same file at once, and a process that is killed leaves the old file or none. npz files
carry checksums, so damage is detected on reading.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from absl import logging

from scs_jax.errors import ArgumentError

# Part of every file's name. Raise it when the meaning of a cached file changes, or what `images`
# makes of a picture. In layout 1 OpenCV or Pillow decoded, whichever TFDS found.
LAYOUT = 2


def folder(cache_dir: str | None) -> pathlib.Path:
  """Returns `cache_dir`, or by default `$XDG_CACHE_HOME/scs_jax` or `~/.cache/scs_jax`."""
  if cache_dir is not None:
    return pathlib.Path(os.path.expanduser(cache_dir))
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'scs_jax'


def identity(info: Any, base: str) -> dict[str, Any]:
  """Returns what distinguishes a prepared split from others and from later preparations.

  The sizes of the files are not enough, because a corrected label changes none of them. The
  identity therefore includes the files' modification times.

  Args:
    info: the `tfds.core.DatasetInfo` of the data set.
    base: the name of the split.

  Raises:
    ArgumentError: a file of the prepared split is missing.
  """
  split_info = info.splits[base]
  return {
    'layout': LAYOUT,
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
    raise ArgumentError(
      f'the prepared data set misses its file {path} ({error}); delete the folder and prepare again'
    ) from error
  return stat.length, stat.mtime


def file_name(identity: dict[str, Any]) -> str:
  """Returns the name of the file that holds the split with this identity."""
  digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
  return f'{identity["data_set"]}-{identity["split"]}-{digest}.npz'.replace('/', '-')


def read(
  path: pathlib.Path, num_examples: int, identity: dict[str, Any] | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns the cached images and labels, or None if the file is missing or damaged.

  A damaged file costs a warning. A file with another number of examples counts as damaged.

  Args:
    path: of the file.
    num_examples: that it must have.
    identity: that it must have, if its name does not tell. A file with another one counts as
      missing.
  """
  try:
    with np.load(path, allow_pickle=False) as arrays:
      if identity is not None and str(arrays['identity']) != json.dumps(identity):
        return None
      images, labels = arrays['images'], arrays['labels']  # reading verifies the checksums
    if len(images) == len(labels) == num_examples:
      return images, labels
    problem = f'{len(images)} images and {len(labels)} labels instead of {num_examples}'
  except (FileNotFoundError, NotADirectoryError):
    return None
  except Exception as error:  # a damaged archive makes zipfile raise many classes
    problem = str(error)
  logging.warning('The cached data set %s is damaged (%s). Decoding it again.', path, problem)
  return None


def write(
  path: pathlib.Path, images: np.ndarray, labels: np.ndarray, identity: dict[str, Any]
) -> None:
  """Writes a decoded split. A folder that is not writable costs a warning only."""
  _replace(
    path,
    lambda file: np.savez(file, images=images, labels=labels, identity=json.dumps(identity)),
  )


def note(path: pathlib.Path, identity: dict[str, Any], value: Any) -> None:
  """Notes a value, which JSON can hold, about what has this identity. As `write`."""
  text = json.dumps({'identity': identity, 'value': value})
  _replace(path, lambda file: file.write(text.encode()))


def recall(path: pathlib.Path, identity: dict[str, Any]) -> Any:
  """Returns the value that was noted about what has this identity, or None."""
  with contextlib.suppress(OSError, ValueError):
    noted = json.loads(path.read_text())
    if isinstance(noted, dict) and noted.get('identity') == identity:
      return noted.get('value')
  return None


def _replace(path: pathlib.Path, write: Callable[[IO[bytes]], Any]) -> None:
  """Writes a file under a temporary name and renames it."""
  temporary = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix='.partial', delete=False) as file:
      temporary = pathlib.Path(file.name)
      write(file)
    os.replace(temporary, path)
  except OSError as error:
    logging.warning(
      'The decoded data set could not be cached (%s). The next run will decode it again. '
      'Make %s writable, or set XDG_CACHE_HOME to another folder.',
      error,
      path.parent,
    )
  finally:
    if temporary:
      temporary.unlink(missing_ok=True)
