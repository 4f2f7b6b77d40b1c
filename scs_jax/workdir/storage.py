"""How a folder is written on a disk and in a bucket (`gs://`), so that a kill damages nothing.

    <directory>/300                a checkpoint: the files of Orbax and `manifest.json`
    <directory>/300.pending...     a save that runs or was killed; removed at the next start
    <directory>/200.deleted        a deletion that runs or was killed; removed at the next start
    <directory>/damaged/300-0      a step that failed its checks, kept as evidence

Disk and bucket share one commit protocol: the manifest is written last and deleted first.

On a disk a step is written as `300.pending` and renamed to `300` once its manifest is there. A
folder whose name is a number was therefore complete once. In a bucket a rename would copy every
object, so the step is written in place. A step without a manifest is a save that was killed.
"""

import itertools
import os

from absl import logging
from etils import epath

from scs_jax.errors import ArgumentError
from scs_jax.workdir.manifest import MANIFEST

_PENDING = '.pending'
_DELETED = '.deleted'
_LEFTOVERS = (_PENDING, _DELETED, '.orbax-checkpoint-tmp')  # the last one is Orbax's own


def folder(workdir: str | os.PathLike[str]) -> epath.Path:
  """Returns the path `workdir`.

  Raises:
    ArgumentError: it is empty, which would mean the current folder.
  """
  if not os.fspath(workdir):
    raise ArgumentError(
      "--workdir is '', perhaps from an unset variable: name a folder, or use . for the current one"
    )
  return epath.Path(workdir)


def is_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether `path` is in an object store, where files can be neither locked nor appended to."""
  return '://' in os.fspath(path)


def absolute(path: str | os.PathLike[str]) -> epath.Path:
  """Returns an absolute path, as Orbax requires. Resolving an address `gs://` would break it."""
  return epath.Path(path) if is_bucket(path) else epath.Path(path).resolve()


def write_whole(path: epath.Path, text: str) -> None:
  """Writes a text file. Other processes see the whole file or none."""
  if is_bucket(path):
    path.write_text(text)  # objects appear whole
    return
  draft = path.parent / f'{path.name}.draft'
  draft.write_text(text)
  draft.replace(path)


def steps(directory: epath.Path) -> list[int]:
  """Returns the steps in `directory` in ascending order, good or not."""
  if not directory.exists():
    return []
  names = [path.name for path in directory.iterdir()]
  return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def pending(directory: epath.Path, step: int) -> epath.Path:
  """Returns the path where the files of a step are written before they are committed."""
  return directory / (str(step) if is_bucket(directory) else f'{step}{_PENDING}')


def commit(directory: epath.Path, step: int, manifest_bytes: bytes) -> None:
  """Makes a step that is written completely one of `steps`."""
  path = pending(directory, step)
  (path / MANIFEST).write_bytes(manifest_bytes)
  if not is_bucket(directory):
    path.rename(directory / str(step))


def delete(directory: epath.Path, step: int) -> None:
  """Deletes a good step. A kill halfway leaves nothing that looks like a damaged step."""
  path = directory / str(step)
  if is_bucket(directory):
    (path / MANIFEST).unlink()
  else:
    path = path.rename(directory / f'{step}{_DELETED}')
  path.rmtree()


def set_aside(directory: epath.Path, step: int) -> None:
  """Moves a damaged step to `damaged/`, under an unused name, and logs where it is."""
  damaged = directory / 'damaged'
  damaged.mkdir(exist_ok=True)
  # A folder of a bucket exists only while it holds an object, and moves need an existing folder.
  (damaged / 'README.txt').write_text('Checkpoints that failed their checks; nothing reads them.\n')
  names = (damaged / f'{step}-{number}' for number in itertools.count())
  target = next(path for path in names if not path.exists())
  (directory / str(step)).rename(target)
  logging.warning('Moved the damaged step %d to %s', step, target)


def remove_leftovers(directory: epath.Path) -> None:
  """Removes what killed or failed saves and deletions left."""
  if not directory.exists():  # an empty folder of a bucket
    return
  for path in list(directory.iterdir()):
    killed = path.name.endswith(_LEFTOVERS) or (
      is_bucket(directory) and path.name.isdecimal() and not (path / MANIFEST).exists()
    )
    if killed and path.name.partition('.')[0].isdecimal():
      path.rmtree()
