"""The folder of a run: it belongs to one config, and one process writes to it at a time."""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from scs_jax.errors import ArgumentError, UserError
from scs_jax.workdir import buckets, lease, processes, storage
from scs_jax.workdir.processes import WorkdirError

_CONFIG = 'config.json'
_SIZES = 'model.json'
_SAVED = 'saved.json'
_CHECKPOINTS = 'checkpoints'
_METRICS = 'metrics.jsonl'
_LOCK = 'lock'


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

  Process 0 takes the file `lock` before it writes anything else. On a disk the operating system
  locks it, and frees it as soon as the process ends, however it ends. In a bucket it is a lease;
  `lease.py` describes its limits. The first holder writes `config.json`.

  With several processes this is a collective, and all of them raise the same error.

  Args:
    path: folder of the run, local or `gs://`.
    config: config of the run, as JSON.
    may_change: keys, or groups of keys, in which a resumed run may differ from its first start.
    defaults: default config as JSON, for keys that only one of the two configs has.
    sizes: what is needed to build the model without its data set. Written to `model.json` as JSON
      unless that file exists; None writes nothing.

  Raises:
    ArgumentError: `path` cannot be written, or holds a run of another config, or parts of a run.
    WorkdirError: another process uses it.
  """
  with contextlib.ExitStack() as held:

    def begin() -> None:
      check = functools.partial(_check, path, config, may_change, defaults)
      try:
        check()  # before the lock is made, so that nothing is left in a folder of somebody else
        path.mkdir(parents=True, exist_ok=True)
        lock = path / _LOCK
        held.enter_context(lease.hold(lock) if storage.is_bucket(path) else _locked(lock))
        begun = check()  # what is there now stays as it is
        if sizes is not None and not (begun and _has_sizes(path)):
          text = json.dumps(dict(sizes), indent=2) + '\n'
          storage.write_whole(path / _SIZES, text.encode())
        if not begun:  # last, because a folder holds a run once this file exists
          storage.write_whole(path / _CONFIG, f'{config}\n'.encode())
      except OSError as error:
        raise ArgumentError(f'--workdir {path} cannot be written: {error}') from error

    processes.on_process_zero(begin)
    yield


@contextlib.contextmanager
def _locked(path: epath.Path) -> Iterator[None]:
  """Holds the lock of a file, which then says who holds it."""
  with open(storage.open_own(path, os.O_RDWR), 'r+', errors='replace') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise lease.in_use(path, lock.read()) from None
    if not _is_same_file(lock.fileno(), path):
      raise WorkdirError(f'--workdir {path.parent} was removed while the run began: start it again')
    lock.truncate(0)
    lock.write(lease.holder())
    lock.flush()
    yield


def _is_same_file(descriptor: int, path: epath.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  except FileNotFoundError:
    return False


def _check(path: epath.Path, config: str, may_change: Sequence[str], defaults: str | None) -> bool:
  """Returns whether `path` holds this run; raises ArgumentError if it holds anything else."""
  if holds_run(path):
    check_same_run(path, config, may_change, defaults)
    if _has_lost_steps(path):
      raise ArgumentError(
        f'--workdir {path} has lost its checkpoints: put {_CHECKPOINTS}/ back, or use another '
        f'workdir (or delete {_SAVED} and {_METRICS} to start afresh in this one)'
      )
    return True
  names = (_SAVED, _METRICS, 'metrics-000000.jsonl')
  parts = [name for name in names if (path / name).exists()]
  if parts := [f'{_CHECKPOINTS}/'] * _holds_steps(path) + parts:
    raise ArgumentError(
      f'--workdir {path} holds {", ".join(parts)} but no {_CONFIG}, so its run is unknown: put the '
      f'{_CONFIG} of that run back, or use another workdir'
    )
  return False


def _holds_steps(path: epath.Path) -> bool:
  return bool(storage.steps(path / _CHECKPOINTS))


def _has_lost_steps(path: epath.Path) -> bool:
  """Whether there were checkpoints and are none. Version 0.1.0 noted no saves."""
  if _holds_steps(path):
    return False
  removed = not storage.is_bucket(path) and not (path / _CHECKPOINTS).exists()
  return (path / _SAVED).exists() or (removed and (path / _METRICS).exists())


def note_saved(path: epath.Path, step: int) -> None:
  """Notes in the workdir `path` that a checkpoint was saved.

  A run whose checkpoints were removed afterwards is then not taken for a new one. The note is no
  part of the checkpoint, so a full disk does not matter here.
  """
  with contextlib.suppress(OSError):
    storage.write_whole(path / _SAVED, json.dumps({'step': step}).encode())


def holds_run(path: epath.Path) -> bool:
  """Whether a run was started in `path`.

  Raises:
    ArgumentError: `path` cannot be reached.
  """
  try:
    if storage.is_bucket(path):
      return buckets.blob(path / _CONFIG).exists(**buckets.limits())
    return (path / _CONFIG).exists()
  except UserError:
    raise
  except Exception as error:  # of the network, the credentials or the bucket: many kinds
    what = f'--workdir {path}'
    if storage.is_bucket(path):
      raise buckets.unreachable(what, error) from error
    raise ArgumentError(f'{what} cannot be reached: {storage.reason(error)}') from error


def check_present(path: epath.Path) -> None:
  """Raises WorkdirError if the folder of a run was removed during the run, or changed hands."""
  try:
    present = holds_run(path)
  except ArgumentError:  # an outage; what is written next will report it
    return
  if not present:
    raise WorkdirError(
      f'--workdir {path} is gone: it was removed or unmounted while the run was writing to it, and '
      'its content is lost. Run the same command again to start afresh'
    )
  if jax.process_index() == 0:
    lease.check_held(path / _LOCK)


def check_same_run(
  path: epath.Path, config: str, may_change: Sequence[str], defaults: str | None = None
) -> None:
  """Checks that `path` holds a run of this config.

  A key that only one of the two configs has counts as its default on the other side. A workdir of
  an earlier version, which had other keys, therefore resumes if every value agrees.

  Args:
    path: folder of a run.
    config: as JSON.
    may_change: keys, or groups of keys, that are not compared.
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
    if ours.get(key) != theirs.get(key) and not _is_among(key, may_change)
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


def config_hash(path: epath.Path, may_change: Sequence[str]) -> str:
  """Returns a SHA-256 of what `config.json` says of the training.

  It does not depend on the order of the keys, nor on those that may change.

  Args:
    path: folder of a run.
    may_change: keys, or groups of keys, that are left out.
  """
  values = _flat(read_config(path))
  kept = {key: value for key, value in values.items() if not _is_among(key, may_change)}
  return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_config(path: epath.Path) -> dict[str, Any]:
  """Returns the config of the run that `path` holds.

  Raises:
    ArgumentError: `path` holds no run, or its config cannot be read.
  """
  if not holds_run(path):
    lost = f', but checkpoints without {_CONFIG}: put it back' if _holds_steps(path) else ''
    raise ArgumentError(f'--workdir {path} holds no run{lost or ": train first"}')
  return _read(path, _CONFIG, 'put the right one back, or use another workdir')


def read_sizes(path: epath.Path) -> dict[str, Any] | None:
  """Returns what `claim` wrote as `sizes`; None if `path` has no `model.json`.

  Version 0.1.0 wrote none.

  Raises:
    ArgumentError: the file cannot be read.
  """
  if not (path / _SIZES).exists():
    return None
  remedy = 'delete it and resume the run, which writes it again'
  return _read(path, _SIZES, remedy, _check_sizes)


def _has_sizes(path: epath.Path) -> bool:
  try:
    return read_sizes(path) is not None
  except ArgumentError:  # it is damaged
    return False


def _check_sizes(sizes: dict[str, Any]) -> None:
  shape, classes = sizes.get('input_shape'), sizes.get('num_classes')
  numbers = [*shape, classes] if isinstance(shape, list) else []
  if len(numbers) != 4 or not all(type(number) is int and number > 0 for number in numbers):
    raise ValueError('input_shape must be three whole numbers, and num_classes one')


def _read(
  path: epath.Path,
  name: str,
  remedy: str,
  check: Callable[[dict[str, Any]], None] = lambda value: None,
) -> dict[str, Any]:
  """Returns the object of JSON in a file; `check` raises ValueError if it is not the right one."""
  try:
    value = json.loads(storage.read_whole(path / name))
    if not isinstance(value, dict):
      raise ValueError(f'it holds a {type(value).__name__}')
    check(value)
  except (OSError, ValueError, RecursionError) as error:
    raise ArgumentError(
      f'--workdir {path} has a {name} that cannot be read ({error}): {remedy}'
    ) from error
  return value


def _is_among(key: str, groups: Sequence[str]) -> bool:
  return any(key == group or key.startswith(f'{group}.') for group in groups)


def _flat(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Maps 'optimizer.name' and the like to the values of a nested dict."""
  if isinstance(tree, dict):
    return {k: v for name in tree for k, v in _flat(tree[name], f'{prefix}{name}.').items()}
  return {prefix[:-1]: tree}
