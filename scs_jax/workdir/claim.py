"""The folder of a run: it belongs to one config, and one process writes to it at a time."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from scs_jax.errors import ArgumentError, UserError
from scs_jax.workdir.storage import is_bucket, write_whole

_CONFIG = 'config.json'
_SIZES = 'model.json'


class WorkdirError(UserError, RuntimeError):
  """The folder of a run is in use, or it disappeared."""


@contextlib.contextmanager
def claim(
  path: epath.Path,
  config: str,
  may_change: Sequence[str],
  defaults: str | None = None,
  *,
  sizes: Mapping[str, Any] | None = None,
) -> Iterator[None]:
  """Reserves `path` for this run while the context lasts.

  The first start writes `config.json`. Where the file system has locks, process 0 holds the file
  `lock`, so that no second run writes to the folder. The lock is free as soon as the process ends,
  however it ends. Buckets have no locks.

  Args:
    path: folder of the run, local or `gs://`.
    config: config of the run, as JSON.
    may_change: first words of the keys in which a resumed run may differ from its first start.
    defaults: default config as JSON, for keys that only one of the two configs has.
    sizes: what is needed to build the model without its data set. Written to `model.json` as JSON
      unless that file exists; None writes nothing.

  Raises:
    ArgumentError: `path` cannot be written, or holds a run of another config.
    WorkdirError: another process uses it.
  """
  begun = holds_run(path)
  if begun:
    check_same_run(path, config, may_change, defaults)
  if jax.process_index() != 0:
    yield
    return
  lock = None
  try:
    if not begun:
      path.mkdir(parents=True, exist_ok=True)
    if sizes is not None and not (begun and (path / _SIZES).exists()):
      write_whole(path / _SIZES, json.dumps(dict(sizes), indent=2) + '\n')
    if not begun:  # last, because a folder holds a run once this file exists
      write_whole(path / _CONFIG, config + '\n')
    if not is_bucket(path):
      lock = os.fdopen(os.open(path / 'lock', os.O_RDWR | os.O_CREAT), 'r+')
  except OSError as error:
    raise ArgumentError(f'--workdir {path} cannot be written: {error}') from error
  if lock is None:
    yield
    return
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
  """Whether a run was started in `path`.

  Raises:
    ArgumentError: `path` cannot be reached.
  """
  try:
    return (path / _CONFIG).exists()
  except ImportError as error:
    raise ArgumentError(
      f"--workdir {path} has no client here: {error}. For gs:// run pip install 'scs-jax[gcs]'"
    ) from error
  except OSError as error:
    raise ArgumentError(f'--workdir {path} cannot be reached: {error}') from error


def check_present(path: epath.Path) -> None:
  """Raises WorkdirError if the folder of a run was removed during the run."""
  if not holds_run(path):
    raise WorkdirError(
      f'--workdir {path} is gone: it was removed or unmounted while the run was writing to it, and '
      'its content is lost. Run the same command again to start afresh'
    )


def check_same_run(
  path: epath.Path, config: str, may_change: Sequence[str], defaults: str | None = None
) -> None:
  """Checks that `path` holds a run of this config.

  A key that only one of the two configs has counts as its default on the other side. A workdir of
  an earlier version, which had other keys, therefore resumes if every value agrees.

  Args:
    path: folder of a run.
    config: as JSON.
    may_change: first words of the keys that are not compared.
    defaults: default config as JSON.

  Raises:
    ArgumentError: a value differs; or the run has a key that is unknown here, so that another
      version of scs_jax must have written it; or its config cannot be read.
  """
  known = _flat(json.loads(defaults)) if defaults is not None else {}
  ours, theirs = known | _flat(json.loads(config)), known | _flat(read_config(path))
  differ = [
    key
    for key in sorted(ours.keys() | theirs.keys())
    if ours.get(key) != theirs.get(key) and not {key, key.split('.')[0]} & set(may_change)
  ]
  if not differ:
    return
  if defaults is not None and not any(key in ours for key in differ):
    found = ', '.join(f'{key}={theirs[key]}' for key in differ)
    raise ArgumentError(
      f'--workdir {path} was written by another version of scs_jax, whose config has keys that '
      f'this version does not know ({found}): use that version, or another workdir'
    )
  found = '; '.join(
    f'{key}: {theirs.get(key, "absent")} there, {ours.get(key, "absent")} here' for key in differ
  )
  raise ArgumentError(
    f'--workdir {path} holds a run of another config ({found}): use another workdir, or the config '
    'of that run'
  )


def read_config(path: epath.Path) -> dict[str, Any]:
  """Returns the config of the run that `path` holds.

  Raises:
    ArgumentError: `path` holds no run, or its config cannot be read.
  """
  if not holds_run(path):
    raise ArgumentError(f'--workdir {path} holds no run: train first')
  return _read(path, _CONFIG, 'put the right one back, or use another workdir')


def read_sizes(path: epath.Path) -> dict[str, Any] | None:
  """Returns what `claim` wrote as `sizes`; None if `path` has no `model.json`.

  Version 0.1.0 wrote none.

  Raises:
    ArgumentError: the file cannot be read.
  """
  if not (path / _SIZES).exists():
    return None
  return _read(path, _SIZES, 'delete it and resume the run, which writes it again')


def _read(path: epath.Path, name: str, remedy: str) -> dict[str, Any]:
  try:
    value = json.loads((path / name).read_text())
    if not isinstance(value, dict):
      raise ValueError(f'it holds a {type(value).__name__}')
  except (OSError, ValueError) as error:
    raise ArgumentError(
      f'--workdir {path} has a {name} that cannot be read ({error}): {remedy}'
    ) from error
  return value


def _flat(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Maps 'optimizer.name' and the like to the values of a nested dict."""
  if isinstance(tree, dict):
    return {k: v for name in tree for k, v in _flat(tree[name], f'{prefix}{name}.').items()}
  return {prefix[:-1]: tree}
