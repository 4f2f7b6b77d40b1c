"""The folder of a run: claimed for one config, used by one run at a time, and missed when gone."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence

import jax
from etils import epath


class WorkdirError(RuntimeError):
  """The folder of a run is in use, or went away."""


def folder(workdir: str | os.PathLike) -> epath.Path:
  """Returns the folder `workdir`; raises ValueError if it is empty, which would be the current one."""
  if not os.fspath(workdir):
    raise ValueError(
      "--workdir is '', as an unset variable leaves it: name a folder, or say . for the current one"
    )
  return epath.Path(workdir)


@contextlib.contextmanager
def claim(path: epath.Path, config: str, may_change: Sequence[str]) -> Iterator[None]:
  """Makes `path` the home of this run while the context lasts.

  Writes `config.json` on the first start. On a file system with locks, `lock` is held by process
  0, so that a second run cannot write there too; it is free as soon as the process ends, however
  it ends. Buckets have no locks.

  Args:
    path: of the run, local or `gs://`.
    config: of the run, as JSON.
    may_change: first words of the keys in which this start may differ from the first.

  Raises:
    ValueError: it cannot be written, or holds a run of another config.
    WorkdirError: another process is using it.
  """
  if holds_run(path):
    check_same_run(path, config, may_change)
  elif jax.process_index() == 0:
    try:
      path.mkdir(parents=True, exist_ok=True)
      # It must appear whole, because another process may be looking whether it is there: objects
      # do, files are renamed into place.
      draft = path / ('config.json' if is_bucket(path) else 'config.json.draft')
      draft.write_text(config + '\n')
      if not is_bucket(path):
        draft.rename(path / 'config.json')
    except OSError as error:
      raise ValueError(f'--workdir {path} cannot be written: {error}') from error
  if jax.process_index() != 0 or is_bucket(path):
    yield
    return
  try:
    lock = os.fdopen(os.open(path / 'lock', os.O_RDWR | os.O_CREAT), 'r+')
  except OSError as error:
    raise ValueError(f'--workdir {path} cannot be written: {error}') from error
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      lock.seek(0)
      raise WorkdirError(
        f'--workdir {path} is in use by {lock.read().strip() or "another process"}: wait until it '
        'ends, or use another workdir'
      ) from None
    lock.truncate(0)
    lock.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    lock.flush()
    yield


def holds_run(path: epath.Path) -> bool:
  """Whether a run was begun in `path`; raises ValueError if that cannot be found out."""
  try:
    return (path / 'config.json').exists()
  except ImportError as error:
    raise ValueError(
      f"--workdir {path} has no client here: {error}. For gs:// run pip install 'scs-jax[gcs]'"
    ) from error
  except OSError as error:
    raise ValueError(f'--workdir {path} cannot be reached: {error}') from error


def check_present(path: epath.Path) -> None:
  """Raises WorkdirError if the run's folder was removed while it ran."""
  if not holds_run(path):
    raise WorkdirError(
      f'--workdir {path} is gone: it was removed or unmounted while the run was writing to it. What '
      'it held is lost; the same command starts afresh'
    )


def check_same_run(path: epath.Path, config: str, may_change: Sequence[str]) -> None:
  """Raises ValueError if `path` holds a run of another config than this, which is JSON."""
  ours = _flat(json.loads(config))
  try:
    theirs = _flat(json.loads((path / 'config.json').read_text()))
  except ValueError as error:
    raise ValueError(
      f'--workdir {path} has a config.json that cannot be read ({error}): put the right one back, or '
      'use another workdir'
    ) from error
  differ = [
    f'{key}: {theirs.get(key, "absent")} there, {ours.get(key, "absent")} here'
    for key in sorted(ours.keys() | theirs.keys())
    if ours.get(key) != theirs.get(key) and key.split('.')[0] not in may_change
  ]
  if differ:
    raise ValueError(
      f'--workdir {path} holds a run of another config ({"; ".join(differ)}): use another '
      'workdir, or the config of that run'
    )


def is_bucket(path: epath.Path) -> bool:
  """Whether `path` is an object store, where files can neither be locked nor appended to."""
  return '://' in os.fspath(path)


def _flat(tree, prefix=''):
  if isinstance(tree, dict):
    return {k: v for name in tree for k, v in _flat(tree[name], f'{prefix}{name}.').items()}
  return {prefix[:-1]: tree}
