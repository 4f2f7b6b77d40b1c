"""How a folder is written on a disk and in a bucket (`gs://`), so that a kill damages nothing.

    <directory>/300                a checkpoint: the files of Orbax and `manifest.json`
    <directory>/300.pending        a save that runs or was killed; removed at the next start
    <directory>/200.deleted        a deletion that runs or was killed; removed at the next start
    <directory>/damaged/300-0      a step that failed its checks, kept as evidence

Disk and bucket share one commit protocol: the manifest is the last file of a step to be written.

On a disk `300.pending` is the folder that is written. It is renamed to `300` once its manifest is
there, so a folder whose name is a number was complete once. In a bucket a rename would copy every
object. There the step is written in place, and `300.pending` is an object that says so. It is made
first and removed last. Likewise `200.deleted` is the renamed folder, or an object beside it.

A step that lost its manifest bears no such mark. It is never deleted.
"""

import contextlib
import errno
import itertools
import os
import re
import stat

from absl import logging
from etils import epath

from scs_jax.errors import ArgumentError
from scs_jax.workdir.manifest import MANIFEST, is_file

_PENDING = '.pending'
_DELETED = '.deleted'
_LEFTOVERS = (_PENDING, _DELETED, '.orbax-checkpoint-tmp')  # the last one is Orbax's own
_LONGEST_REASON = 300  # characters
# Orbax looks for its files by patterns, and its storage layer takes a backslash for a slash.
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f\\*?\[\]]')


def folder(workdir: str | os.PathLike[str]) -> epath.Path:
  """Returns the path `workdir`, with `~` as the home folder.

  Raises:
    ArgumentError: no run could be kept there: the path is empty, which would mean the current
      folder, or has a character that Orbax cannot handle, or an unknown scheme.
  """
  text = os.path.expanduser(os.fsdecode(os.fspath(workdir)))
  if not text:
    raise ArgumentError(
      "--workdir is '', perhaps from an unset variable: name a folder, or use . for the current one"
    )
  refuse = lambda reason: ArgumentError(f'--workdir {text!r} {reason}')
  if text.startswith('~'):
    raise refuse(f'names no home folder: write {"./" + text!r} for a folder of that name')
  if re.match(r'\w+:/', text) and not re.match(r'gs://[a-z0-9]', text):
    raise refuse('is no address: use a folder, or a bucket as gs://BUCKET/FOLDER')
  try:
    whole = text if is_bucket(text) else os.path.abspath(text)
    whole.encode()
  except UnicodeEncodeError as error:
    raise refuse('is not UTF-8: use another name') from error
  except OSError as error:
    raise refuse(f'cannot be reached from the current folder: {error}') from error
  if unusable := sorted(set(_UNUSABLE.findall(whole))):
    found = ' '.join(map(repr, unusable))
    raise refuse(f'has characters that checkpoints cannot have in their path ({found}): rename it')
  if is_bucket(epath.Path(whole)) != is_bucket(whole):
    raise refuse('is on a disk, but /gs, /s3, /az and /hf stand for buckets: use another folder')
  return epath.Path(text)


def is_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether `path` is in an object store, where files can be neither locked nor appended to."""
  return '://' in os.fspath(path)


def absolute(path: str | os.PathLike[str]) -> epath.Path:
  """Returns an absolute path, as Orbax requires. Resolving an address `gs://` would break it."""
  return epath.Path(path) if is_bucket(path) else epath.Path(path).resolve()


def open_own(path: epath.Path, flags: int) -> int:
  """Opens a file of ours on a disk, made with mode 0644 if it is absent.

  Links are not followed: whoever may write to the folder could otherwise have us change any file.

  Returns:
    The file descriptor.
  """
  # Opening a pipe would otherwise wait for its reader.
  flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
  descriptor = os.open(path, flags, 0o644)
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise OSError(errno.EINVAL, 'is not a file', str(path))
  return descriptor


def read_whole(path: epath.Path) -> bytes:
  """Returns what a file holds; raises OSError if it is no file, as a pipe that nobody writes to."""
  if path.exists() and not is_file(path):
    raise OSError(errno.EINVAL, 'is not a file', str(path))
  return path.read_bytes()


def write_whole(path: epath.Path, data: bytes) -> None:
  """Writes a file. Others see all of it or what was there before, also after a power failure.

  Raises:
    OSError: it cannot be written; the message has its path.
  """
  if is_bucket(path):
    try:
      path.write_bytes(data)  # objects appear whole
    except Exception as error:  # the clients have kinds of their own
      raise OSError(f'{path} cannot be written: {reason(error)}') from error
    return
  draft = path.parent / f'{path.name}.draft'
  try:
    draft.unlink(missing_ok=True)
    with open(open_own(draft, os.O_WRONLY | os.O_EXCL), 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)
  except OSError as error:
    with contextlib.suppress(OSError):
      draft.unlink(missing_ok=True)
    raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from error


def sync_folder(path: epath.Path) -> None:
  """Makes new names in a folder survive a power failure, where the file system can."""
  with contextlib.suppress(OSError):
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)


def steps(directory: epath.Path) -> list[int]:
  """Returns the steps in `directory` in ascending order, good or not."""
  names = _names(directory)
  return sorted(
    int(name)
    for name in names
    if name.isdecimal()
    and name == str(int(name))
    and not (is_bucket(directory) and {name + _PENDING, name + _DELETED} & names)
  )


def pending(directory: epath.Path, step: int) -> epath.Path:
  """Returns the path where the files of a step are written before they are committed."""
  return directory / (str(step) if is_bucket(directory) else f'{step}{_PENDING}')


def announce(directory: epath.Path, step: int) -> None:
  """Notes that a step is going to be written."""
  if is_bucket(directory):
    (directory / f'{step}{_PENDING}').write_text('')


def commit(directory: epath.Path, step: int, manifest_bytes: bytes) -> None:
  """Makes a step that is written completely one of `steps`."""
  mark, path = directory / f'{step}{_PENDING}', directory / str(step)
  write_whole(pending(directory, step) / MANIFEST, manifest_bytes)
  if is_bucket(directory):
    mark.unlink()
  else:
    mark.rename(path)
    sync_folder(directory)


def delete(directory: epath.Path, step: int) -> None:
  """Deletes a step. A kill halfway leaves nothing that looks like a damaged step."""
  mark, path = directory / f'{step}{_DELETED}', directory / str(step)
  if is_bucket(directory):
    mark.write_text('')
    path.rmtree()
    mark.unlink()
  else:
    path.rename(mark).rmtree()


def set_aside(directory: epath.Path, step: int) -> None:
  """Moves a damaged step to `damaged/`, under an unused name, and logs where it is."""
  damaged = directory / 'damaged'
  damaged.mkdir(exist_ok=True)
  if is_bucket(directory):  # there a folder exists only while it holds an object
    (damaged / 'README.txt').write_text('Checkpoints that failed their checks\n')
  names = (damaged / f'{step}-{number}' for number in itertools.count())
  target = next(path for path in names if not path.exists())
  (directory / str(step)).rename(target)
  logging.warning('Moved the damaged step %d to %s', step, target)


def remove_leftovers(directory: epath.Path) -> None:
  """Removes what killed or failed saves and deletions left."""
  for name in sorted(_names(directory)):
    number, path = name.partition('.')[0], directory / name
    if not (number.isdecimal() and name.endswith(_LEFTOVERS)):
      continue
    marked = directory / number
    if is_bucket(directory) and marked.exists():
      committed = name.endswith(_PENDING) and (marked / MANIFEST).exists()
      if not committed:  # the kill came before the last object; else only the mark is left
        marked.rmtree()
    if is_bucket(directory) or (os.path.isdir(path) and not os.path.islink(path)):
      path.rmtree()
    else:  # not ours; rmtree would wait for the writer of a pipe
      path.unlink()


def reason(error: BaseException) -> str:
  """Returns in one line why something failed; messages of Orbax hold whole specifications."""
  if code := re.search(r"os_error_code='(\d+)'", str(error)):
    return os.strerror(int(code[1]))
  text = ' '.join(str(error).split())
  text = text if len(text) <= _LONGEST_REASON else f'{text[:_LONGEST_REASON]}...'
  return text if isinstance(error, OSError) and text else f'{type(error).__name__}: {text}'


def _names(directory: epath.Path) -> set[str]:
  """Returns the names in `directory`; none if it is absent, like an empty folder of a bucket."""
  return {path.name for path in directory.iterdir()} if directory.is_dir() else set()
