"""Checkpoints that are checked: save, verify, restore, fall back, re-shard.

Orbax writes and reads the arrays. It does not notice when bytes on the disk change (it restores
wrong numbers without a word), so every step carries a manifest of checksums, and only a step that
agrees with its manifest is restored, counted or called good.

    <directory>/300/manifest.json     size and SHA-256 of every other file, and of itself
    <directory>/300/state, /extra     what Orbax wrote
    <directory>/300.pending...        a save under way, or one that was killed; removed at the start
    <directory>/200.deleted           a step on its way out; the same
    <directory>/damaged/300-0         a step that failed its checks, kept as evidence

A step is written as `300.pending`, committed by Orbax, hashed, and only then renamed to `300`: a
directory whose name is a number was complete once. In a bucket (`gs://`) a rename would copy every
object; a step is written in place there, its manifest comes last and goes first, and what has none
is a save that was killed.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import itertools
import json
import logging as python_logging
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

PyTree = Any

_MANIFEST = 'manifest.json'
_PENDING = '.pending'
_DELETED = '.deleted'
_LEFTOVERS = (_PENDING, _DELETED, '.orbax-checkpoint-tmp')  # the last is Orbax's own
_CHUNK_BYTES = 1 << 20


class CheckpointError(RuntimeError):
  """A checkpoint cannot be restored, or not into this model."""


class SaveError(CheckpointError, OSError):
  """A checkpoint could not be written; the earlier ones are untouched."""


class _DamagedError(Exception):
  """Says why a step is not good."""


class Restored(NamedTuple):
  """What a checkpoint held."""

  step: int
  state: PyTree
  extra: dict[str, Any]


class Checkpoints:
  """The checkpoints of one run, in one directory.

  With several processes every process makes this object and makes the same calls in the same
  order. Process 0 alone hashes, verifies, renames and deletes; the others follow its choice.

  The attribute `skipped` maps each step that the last `restore` passed over to the reason.

  Args:
    directory: where the steps live, also `gs://`. Made if absent, unless `read_only`.
    keep_latest: how many of the newest good steps to keep; at least 1.
    keep_best: how many good steps with the highest `best_metric` to keep besides.
    best_metric: the entry of `extra['metrics']` that ranks steps; higher is better. A step where
      it is absent or not finite is never best.
    read_only: change nothing on disk: neither clean up nor set damaged steps aside.
  Raises: ValueError for a `keep_latest` below 1 or a negative `keep_best`.
  Example:
    >>> with Checkpoints('/tmp/run/checkpoints') as checkpoints:  # doctest: +SKIP
    ...   restored = checkpoints.restore(abstract_state)
    ...   checkpoints.save(100, state, {'metrics': {'val/accuracy': 0.9}})
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep_latest: int = 2,
    keep_best: int = 1,
    best_metric: str = 'val/accuracy',
    read_only: bool = False,
  ) -> None:
    if keep_latest < 1 or keep_best < 0:
      raise ValueError(
        f'keep_latest must be at least 1 and keep_best at least 0, not {keep_latest}, {keep_best}'
      )
    self.skipped: dict[int, str] = {}
    directory = epath.Path(directory)
    self._in_bucket = '://' in os.fspath(directory)
    # Orbax refuses relative paths, and to resolve gs:// would make it one.
    self._directory = directory if self._in_bucket else directory.resolve()
    self._keep_latest = keep_latest
    self._keep_best = keep_best
    self._best_metric = best_metric
    self._read_only = read_only
    self._manifests: dict[int, dict[str, Any]] = {}  # of the steps that this object found good
    self._finishing: tuple[int, concurrent.futures.Future[None]] | None = None
    self._log_filter = functools.partial(_is_wanted)  # one of its own for each object
    logging.get_absl_logger().addFilter(self._log_filter)
    # Not Orbax's CheckpointManager: that keeps a list of steps of its own, which goes stale when a
    # step is set aside, and a save of a step it believes to exist silently does nothing.
    self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
    self._background = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint')
    if not read_only and jax.process_index() == 0:
      self._directory.mkdir(parents=True, exist_ok=True)
      self._remove_leftovers()

  def save(self, step: int, state: PyTree, extra: dict[str, Any]) -> None:
    """Starts to save `state` and `extra`; returns once the arrays may be donated.

    First waits for the save before. Writing, hashing and deleting old steps go on in the
    background; nothing is deleted before this step is committed and verified.

    Args:
      step: the number to save under.
      state: pytree of jax.Array.
      extra: anything JSON can hold; it comes back as JSON gives it (tuples as lists, keys as
        strings). `extra['metrics']`, a dict of numbers, ranks the steps.
    Raises:
      SaveError: this save could not start, or the save before failed.
      ValueError: the directory already holds a good `step`, or is open for reading only.
      TypeError: a leaf of `state` is not a jax.Array, or `extra` is not JSON.
    """
    if self._read_only:
      raise ValueError(f'{self._directory} is open for reading only: step {step} is not saved')
    extra = _copy_json(extra)
    manifest = {
      'step': step,
      'state': _describe_arrays(state),
      'metrics': extra.get('metrics', {}),
    }
    self.wait()
    _on_process_zero(functools.partial(self._make_room, step))
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra))
    try:
      self._orbax.save(self._pending(step), args=items)
    except Exception as cause:  # Orbax raises whatever its storage layer raised
      raise self._save_error(step, cause) from cause
    finish = functools.partial(self._finish, step, manifest)
    self._finishing = step, self._background.submit(finish)

  def restore(self, abstract_state: PyTree, step: int | None = None) -> Restored | None:
    """Restores the newest good step, or the given one.

    Steps that fail their checks are skipped with a warning that names step and reason, listed in
    `skipped`, and moved to `damaged/` (unless `read_only`), so that the run can save them again.

    Args:
      abstract_state: pytree of jax.ShapeDtypeStruct with the shardings wanted now; devices and
        shardings may differ from those at the time of the save.
      step: restore this one and no other.
    Returns: step, state and extra; None if the directory holds no step and none was asked for.
    Raises:
      CheckpointError: there are steps and none is good; `step` is absent or damaged; or the step
        does not fit `abstract_state` (no older step is tried then: the model has changed).
      ValueError: a leaf of `abstract_state` has no sharding.
    """
    wanted = _describe_arrays(abstract_state, abstract=True)
    self.wait()
    choice = _on_process_zero(functools.partial(self._choose, step, wanted))
    if choice is None:
      return None
    chosen, skipped = choice
    self.skipped = dict(skipped)
    items = ocp.args.Composite(
      state=ocp.args.StandardRestore(abstract_state), extra=ocp.args.JsonRestore()
    )
    try:
      restored = self._orbax.restore(self._directory / str(chosen), args=items)
    except Exception as cause:  # the files are intact: whatever this is, an older step has it too
      raise CheckpointError(
        f'step {chosen} in {self._directory} agrees with its manifest, but restoring it failed: '
        f'{cause}'
      ) from cause
    if not self._read_only and jax.process_index() == 0:
      # Only now: if nothing could be restored, the next start must find the same steps again.
      for damaged in self.skipped:
        self._set_aside(damaged)
    return Restored(chosen, restored['state'], restored['extra'])

  def verified_steps(self) -> list[int]:
    """The good steps in ascending order, read anew only where this object has not yet done so.

    Waits for the save under way, and raises SaveError if that failed.
    """
    self.wait()
    return _on_process_zero(lambda: sorted(self._verify_steps()))

  def latest_step(self) -> int | None:
    """The newest good step; None if there is none. Waits as `verified_steps` does."""
    return max(self.verified_steps(), default=None)

  def best_step(self) -> int | None:
    """The good step with the highest `best_metric`, the newest of equals; None if none has it."""
    self.wait()
    return _on_process_zero(lambda: next(iter(self._ranked(self._verify_steps())), None))

  def wait(self) -> None:
    """Waits until the save under way is good on disk; raises SaveError if it failed."""
    error = self._join()
    _on_process_zero(functools.partial(_raise_error, error))
    _raise_error(error)

  def close(self) -> None:
    """Waits, raises what `wait` raises, and ends the background thread."""
    try:
      self.wait()
    finally:
      self._release()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    if kind is None:
      self.close()
      return
    # The exception under way matters more than a failed save; and with several processes the
    # others may never come to a common wait, so this process finishes alone.
    error = self._join()
    if error is not None:
      logging.error('%s', error)
    self._release()

  # --- saving -------------------------------------------------------------------------------------

  def _finish(self, step: int, manifest: dict[str, Any]) -> None:
    """Waits for the commit, then hashes, renames and prunes; runs in the background thread.

    With several processes this is safe beside training because nothing here is a collective of
    devices: Orbax's own commit meets at barriers of the coordination service, and what follows it
    is file work of process 0, whose wait returns only after every process has written its part.
    The others learn how it went from process 0 at the next save, wait or close, in the main thread.
    """
    self._orbax.wait_until_finished()
    if jax.process_index() != 0:
      return
    pending = self._pending(step)
    manifest = {**manifest, 'files': _fingerprints(pending)}
    (pending / _MANIFEST).write_bytes(_encode_manifest(manifest))
    if not self._in_bucket:
      pending.rename(self._directory / str(step))
    self._manifests[step] = manifest
    self._prune()

  def _prune(self) -> None:
    """Deletes the good steps that are neither among the newest nor among the best."""
    steps = sorted(self._verify_steps())
    best = self._ranked(steps)[: self._keep_best]
    for step in set(steps[: -self._keep_latest]) - set(best):
      # In two steps, so that a kill half-way leaves nothing that looks like a damaged step.
      path = going = self._directory / str(step)
      if self._in_bucket:
        (path / _MANIFEST).unlink()
      else:
        going = self._directory / f'{step}{_DELETED}'
        path.rename(going)
      del self._manifests[step]
      going.rmtree()

  def _join(self) -> SaveError | None:
    """Waits for the background thread and returns the error it ended with."""
    if self._finishing is None:
      return None
    step, future = self._finishing
    cause = future.exception()
    self._finishing = None  # after the wait: an interrupt during it must not lose the save
    return None if cause is None else self._save_error(step, cause)

  def _save_error(self, step: int, cause: BaseException) -> SaveError:
    """Cleans up after a failed save and says what is left."""
    left = 'The directory cannot be read'
    # The storage that failed the save may fail these too; the first failure is the one to report.
    with contextlib.suppress(OSError):
      if jax.process_index() == 0:
        self._remove_leftovers()
      good = max(self._verify_steps(), default=None)
      left = 'There is no good step' if good is None else f'The last good step is {good}'
    error = SaveError(f'saving step {step} in {self._directory} failed: {cause!r}. {left}.')
    error.__cause__ = cause
    return error

  def _make_room(self, step: int) -> None:
    """Sets a damaged step of this number aside; raises ValueError if it is good."""
    path = self._directory / str(step)
    if not path.exists():
      return
    try:
      _verify(path)
    except _DamagedError as reason:
      logging.warning('%s holds a damaged step %d: %s', self._directory, step, reason)
      self._set_aside(step)
    else:
      raise ValueError(
        f'{self._directory} already holds a good step {step}: restore it, or use another directory'
      )

  # --- choosing -----------------------------------------------------------------------------------

  def _choose(
    self, step: int | None, wanted: dict[str, str]
  ) -> tuple[int, list[tuple[int, str]]] | None:
    """The step to restore and those skipped on the way to it, all read anew."""
    steps = self._steps()
    if step is not None and step not in steps:
      raise CheckpointError(f'{self._directory} holds no step {step}; its steps are {steps}')
    skipped: list[tuple[int, str]] = []
    for candidate in [step] if step is not None else steps[::-1]:
      self._manifests.pop(candidate, None)
      try:
        manifest = _verify(self._directory / str(candidate))
      except _DamagedError as reason:
        logging.warning('Skipping step %d in %s: %s', candidate, self._directory, reason)
        skipped.append((candidate, str(reason)))
      else:
        self._manifests[candidate] = manifest
        self._check_fit(candidate, manifest['state'], wanted)
        return candidate, skipped
    if not skipped:
      return None
    reasons = ''.join(f'\n  step {number}: {reason}' for number, reason in skipped)
    raise CheckpointError(
      f'no good step to restore in {self._directory}:{reasons}\nNothing was changed. Put an intact '
      f'copy of a step there, or start afresh in another directory. Steps present: {steps}'
    )

  def _check_fit(self, step: int, saved: dict[str, str], wanted: dict[str, str]) -> None:
    """Raises CheckpointError unless both trees have the same paths, shapes and dtypes.

    Orbax would cast to another dtype in silence.
    """
    paths = [path for path in sorted(saved | wanted) if saved.get(path) != wanted.get(path)]
    if paths:
      raise CheckpointError(
        f'step {step} in {self._directory} does not fit the model: {paths[0]!r} is '
        f'{saved.get(paths[0], "absent")} in the checkpoint and '
        f'{wanted.get(paths[0], "absent")} in the model; {len(paths) - 1} more differ. Run with '
        f'the configuration that saved it, or in another directory.'
      )

  def _ranked(self, steps: list[int] | dict[int, Any]) -> list[int]:
    """Those of the good `steps` that have a finite metric, best first."""

    def metric(step: int) -> float:
      value = self._manifests[step]['metrics'].get(self._best_metric)
      return value if isinstance(value, int | float) else math.nan

    finite = [step for step in steps if math.isfinite(metric(step))]
    return sorted(finite, key=lambda step: (metric(step), step), reverse=True)

  def _verify_steps(self) -> dict[int, dict[str, Any]]:
    """The manifests of the good steps; a step found good before is not read again."""
    known, self._manifests = self._manifests, {}
    for step in self._steps():
      with contextlib.suppress(_DamagedError):
        self._manifests[step] = known.get(step) or _verify(self._directory / str(step))
    return self._manifests

  # --- files --------------------------------------------------------------------------------------

  def _steps(self) -> list[int]:
    """The steps in the directory, good or not, ascending."""
    if not self._directory.exists():
      return []
    names = [path.name for path in self._directory.iterdir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

  def _pending(self, step: int) -> epath.Path:
    return self._directory / (str(step) if self._in_bucket else f'{step}{_PENDING}')

  def _set_aside(self, step: int) -> None:
    """Moves a damaged step into `damaged/`, under a name not used yet, and says so."""
    folder = self._directory / 'damaged'
    folder.mkdir(exist_ok=True)
    # A bucket has a folder as long as there is something in it, and nothing moves where none is.
    (folder / 'README.txt').write_text(
      'Checkpoints that failed their checks; nothing reads them.\n'
    )
    names = (folder / f'{step}-{number}' for number in itertools.count())
    target = next(path for path in names if not path.exists())
    (self._directory / str(step)).rename(target)
    logging.warning('Moved the damaged step %d to %s', step, target)

  def _remove_leftovers(self) -> None:
    """Removes what a killed or failed save or deletion left."""
    if not self._directory.exists():  # an empty folder of a bucket
      return
    for path in list(self._directory.iterdir()):
      if path.name.partition('.')[0].isdecimal() and (
        path.name.endswith(_LEFTOVERS)
        or (self._in_bucket and path.name.isdecimal() and not (path / _MANIFEST).exists())
      ):
        path.rmtree()

  def _release(self) -> None:
    self._background.shutdown()
    self._orbax.close()
    logging.get_absl_logger().removeFilter(self._log_filter)


# --- manifests ------------------------------------------------------------------------------------


def _verify(path: epath.Path) -> dict[str, Any]:
  """Returns the manifest of the step in `path` if every file agrees with it.

  Raises: _DamagedError with the first disagreement.
  """
  if not (path / _MANIFEST).exists():
    raise _DamagedError(f'it has no {_MANIFEST}: it was never verified')
  try:
    manifest = _decode_manifest((path / _MANIFEST).read_bytes())
    if str(manifest['step']) != path.name:
      raise _DamagedError(f'its manifest is that of step {manifest["step"]}')
    expected, found = manifest['files'], _fingerprints(path)
  except OSError as error:
    raise _DamagedError(f'it cannot be read: {error}') from error
  for name in sorted(expected | found):
    if name not in found:
      raise _DamagedError(f'{name} is missing')
    if name not in expected:
      raise _DamagedError(f'{name} does not belong to it')
    if found[name] != expected[name]:
      raise _DamagedError(
        f'{name} has changed: {found[name]["bytes"]} bytes with SHA-256 {found[name]["sha256"]}, '
        f'saved as {expected[name]["bytes"]} bytes with {expected[name]["sha256"]}'
      )
  return manifest


def _fingerprints(path: epath.Path) -> dict[str, dict[str, Any]]:
  """Size and SHA-256 of every file below `path` but the manifest, by relative path."""
  return {name: _fingerprint(path / name) for name in _file_names(path) if name != _MANIFEST}


def _file_names(path: epath.Path, prefix: str = '') -> Iterator[str]:
  for child in path.iterdir():
    if child.is_dir():
      yield from _file_names(child, f'{prefix}{child.name}/')
    else:
      yield prefix + child.name


def _fingerprint(path: epath.Path) -> dict[str, Any]:
  digest, size = hashlib.sha256(), 0
  with path.open('rb') as file:
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b''):
      digest.update(chunk)
      size += len(chunk)
  return {'bytes': size, 'sha256': digest.hexdigest()}


def _encode_manifest(manifest: dict[str, Any]) -> bytes:
  """JSON of the manifest and of the SHA-256 of its own text."""
  digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
  return json.dumps({'manifest': manifest, 'sha256': digest}, indent=1, sort_keys=True).encode()


def _decode_manifest(data: bytes) -> dict[str, Any]:
  """The inverse; any changed byte, white space included, raises _DamagedError."""
  try:
    manifest = json.loads(data)['manifest']
    intact = _encode_manifest(manifest) == data
  except (ValueError, LookupError, TypeError, RecursionError):
    intact = False
  if not intact:
    raise _DamagedError(f'its {_MANIFEST} is damaged')
  return manifest


# --- trees and processes --------------------------------------------------------------------------


def _describe_arrays(tree: PyTree, abstract: bool = False) -> dict[str, str]:
  """Maps each leaf's path to its dtype and shape, as in `{'dense/kernel': 'float32[3,8]'}`."""
  described = {}
  for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
    path = jax.tree_util.keystr(keys, simple=True, separator='/')
    if abstract and getattr(leaf, 'sharding', None) is None:
      raise ValueError(
        f'abstract state: {path!r} needs a shape, a dtype and a sharding, got {leaf}'
      )
    if not abstract and not isinstance(leaf, jax.Array):
      raise TypeError(f'state: {path!r} must be a jax.Array, got {type(leaf).__name__}: {leaf}')
    described[path] = f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
  return described


def _copy_json(value: dict[str, Any]) -> dict[str, Any]:
  """A copy that later changes to `value` do not reach."""
  try:
    return json.loads(json.dumps(value))
  except TypeError as error:
    raise TypeError(f'extra must hold what JSON can hold (Python numbers, say): {error}') from error


def _raise_error(error: Exception | None) -> None:
  if error is not None:
    raise error


def _on_process_zero(function: Callable[[], Any]) -> Any:
  """Runs `function` on process 0; every process returns its result or raises its error.

  With several processes this is a collective: every process must call it, from the main thread.
  The result must be JSON; tuples arrive as lists.
  """
  if jax.process_count() == 1:
    return function()
  error = result = None
  if jax.process_index() == 0:
    try:
      result = function()
    except Exception as caught:  # raised below, once the others know
      error = caught
  result, kind, message = _broadcast([result, type(error).__name__, str(error)])
  _raise_error(error)
  if kind != 'NoneType':
    # The same kind everywhere, or a caller that catches one would part the processes' ways.
    raise {'SaveError': SaveError, 'ValueError': ValueError}.get(kind, CheckpointError)(message)
  return result


def _broadcast(value: Any) -> Any:
  """Gives every process the JSON value of process 0."""
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  # A broadcast needs the same shape everywhere, whatever the others brought.
  received = multihost_utils.broadcast_one_to_all(np.resize(data, size))
  return json.loads(np.asarray(received, np.uint8).tobytes())


def _is_wanted(record: python_logging.LogRecord) -> bool:
  """A log filter: Orbax tells some forty lines of progress for each save."""
  return record.levelno >= python_logging.WARNING or not record.pathname.startswith(_ORBAX_FILES)


_ORBAX_FILES = os.path.dirname(ocp.__file__)
