"""Checkpoints that are verified: save, verify, restore, fall back, re-shard.

Orbax writes and reads the arrays. It does not notice when bytes on the disk change, and then
restores wrong numbers silently. Every step therefore carries a manifest of checksums. A step is
good only if it agrees with its manifest and Orbax reads it back.

    <directory>/300/manifest.json     size and SHA-256 of every other file, and of itself
    <directory>/300/state, /extra     what Orbax wrote

`storage.py` describes how a step is committed, and what else the directory holds.
"""

import concurrent.futures
import contextlib
import functools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from scs_jax.errors import ArgumentError, UserError
from scs_jax.workdir import manifest, processes, quiet, storage
from scs_jax.workdir.processes import CheckpointError, SaveError
from scs_jax.workdir.steps import Steps

PyTree = Any
_MOST_ERRORS = 10  # that Orbax keeps of one save


class Restored(NamedTuple):
  """What a checkpoint held."""

  step: int
  state: PyTree
  extra: dict[str, Any]


class Checkpoints:
  """The checkpoints of one run, in one directory.

  With several processes, every process makes this object and makes the same calls in the same
  order. Process 0 alone hashes, verifies, renames and deletes. The others follow its choice.

  Args:
    directory: where the steps live, a folder or `gs://`. Made if absent, unless `read_only`.
    keep_latest: how many of the newest good steps to keep; at least 1.
    keep_best: how many good steps with the highest `best_metric` to keep besides.
    best_metric: the entry of `extra['metrics']` that ranks steps; higher is better. A step where
      it is absent or not finite never counts as best.
    config: hash of the run's config. It goes into every manifest, and a step with another one is
      refused. None neither writes nor compares it.
    on_commit: called on process 0, in the background, with every step that became good.
    read_only: change nothing on disk: neither clean up nor set damaged steps aside.

  Attributes:
    skipped: maps each step that the last restore passed over to the reason.

  Raises:
    ArgumentError: `keep_latest` is below 1 or `keep_best` is negative, or the directory cannot be
      written.

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
    config: str | None = None,
    on_commit: Callable[[int], None] = lambda step: None,
    read_only: bool = False,
  ) -> None:
    self.skipped: dict[int, str] = {}
    self._directory = storage.absolute(directory)
    self._config = config
    self._on_commit = on_commit
    self._read_only = read_only
    self._steps = Steps(
      self._directory,
      keep_latest=keep_latest,
      keep_best=keep_best,
      best_metric=best_metric,
      config=config,
      read_back=_read_back,
    )
    if not read_only:
      processes.on_process_zero(self._clean_up)
    self._finishing: tuple[int, concurrent.futures.Future[None]] | None = None
    self._quiet = quiet.Quiet(os.path.dirname(str(ocp.__file__)))
    # Orbax's CheckpointManager does not fit: its own list of steps goes stale when a step is set
    # aside, and it silently skips a save of a step that it believes to exist.
    # If the thread that makes folders failed, the others would wait for it for twenty minutes.
    at_once = ocp.AsyncOptions(create_directories_asynchronously=False)
    options = ocp.CompositeOptions(async_options=at_once)
    handler = ocp.CompositeCheckpointHandler(composite_options=options)
    self._orbax = ocp.AsyncCheckpointer(handler, async_options=at_once)
    self._background = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint')

  def save(self, step: int, state: PyTree, extra: dict[str, Any]) -> None:
    """Starts to save `state` and `extra`; returns once the arrays may be donated.

    First waits for the previous save. Writing, hashing and deleting old steps continue in the
    background. Nothing is deleted before this step is committed and verified.

    Args:
      step: the number to save under.
      state: pytree of jax.Array.
      extra: JSON data. It is restored as JSON returns it: tuples as lists, keys as strings.
        `extra['metrics']`, a dict of numbers, ranks the steps.

    Raises:
      SaveError: this save could not start, or the previous one failed.
      ArgumentError: the directory already holds a good `step`, or is open for reading only.
      TypeError: a leaf of `state` is not a jax.Array, or `extra` is not JSON.
    """
    if self._read_only:
      raise ArgumentError(f'{self._directory} is open for reading only: step {step} is not saved')
    extra = json.loads(json.dumps(extra))  # later changes to the caller's dict must not reach it
    contents = {
      'step': step,
      'state': manifest.describe_arrays(state),
      'metrics': extra.get('metrics', {}),
    }
    if self._config is not None:
      contents['config'] = self._config
    self.wait()
    processes.on_process_zero(functools.partial(self._make_room, step))
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra))
    try:
      self._orbax.save(storage.pending(self._directory, step), args=items)
    except Exception as cause:  # Orbax raises whatever its storage layer raised
      raise self._save_error(step, cause) from cause
    finish = functools.partial(self._finish, step, contents)
    self._finishing = step, self._background.submit(finish)

  def restore(self, abstract_state: PyTree, step: int | None = None) -> Restored | None:
    """Restores the newest good step, or the given one.

    Steps that fail their checks, or that Orbax cannot read, are skipped with a warning that names
    step and reason, and are listed in `skipped`. Unless `read_only`, they move to `damaged/`, so
    that the run can save them again. They stay where they are if no step can be restored.

    Args:
      abstract_state: pytree of jax.ShapeDtypeStruct with the shardings wanted now. Devices and
        shardings may differ from those at the time of the save.
      step: restore this one and no other.

    Returns:
      Step, state and extra. None if the directory holds no step and none was asked for.

    Raises:
      CheckpointError: steps exist and none is good; `step` is absent or damaged; or the step is of
        another config or does not fit `abstract_state`. In the last two cases no older step is
        tried.
      ArgumentError: a leaf of `abstract_state` has no sharding.
    """
    items = ocp.args.Composite(
      state=ocp.args.StandardRestore(abstract_state), extra=ocp.args.JsonRestore()
    )
    read = lambda path: self._orbax.restore(path, args=items)
    return self._restore(step, manifest.describe_shapes(abstract_state), read)

  def restore_parts(self, parts: Sequence[str], step: int | None = None) -> Restored | None:
    """Restores only the named top-level entries of the state; needs no abstract state.

    Verifies, skips and sets aside as `restore` does. The devices may differ from those at the time
    of the save.

    Args:
      parts: names, such as `['params', 'statistics']`. Those that the state lacks are skipped.
      step: restore this one and no other.

    Returns:
      Step, state and extra. The state is a dict of the parts found, with jax.Arrays on the default
      device in the saved shapes and dtypes. Tuples come back as lists. A dict whose keys are all
      whole numbers has int keys, as `flax.nnx.to_pure_dict` makes them for a list. None if the
      directory holds no step and none was asked for.

    Raises:
      CheckpointError: steps exist and none is good; `step` is absent or damaged; or a part holds
        64-bit numbers and `jax_enable_x64` is off.
    """
    return self._restore(step, None, functools.partial(_read_parts, parts))

  def verified_steps(self) -> list[int]:
    """Returns the good steps in ascending order. Reads only steps that it has not verified yet.

    Waits for the save under way, and raises SaveError if that failed.
    """
    self.wait()
    return processes.on_process_zero(lambda: sorted(self._steps.good()))

  def latest_step(self) -> int | None:
    """Returns the newest good step, or None. Waits as `verified_steps` does."""
    return max(self.verified_steps(), default=None)

  def best_step(self) -> int | None:
    """Returns the good step with the highest `best_metric`, the newest of equals, or None."""
    self.wait()
    return processes.on_process_zero(lambda: next(iter(self._steps.ranked()), None))

  def wait(self) -> None:
    """Waits until the save under way is good on disk; raises SaveError if it failed."""
    error = self._join()

    def raise_it() -> None:
      if error is not None:
        raise error

    processes.on_process_zero(raise_it)
    raise_it()

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
    # The exception under way matters more than a failed save. With several processes, the others
    # may never reach a common wait, so this process finishes alone.
    error = self._join()
    if error is not None and not issubclass(kind, SaveError):  # the first of them is enough
      logging.error('%s', error)
    self._release()

  def _clean_up(self) -> None:
    try:
      self._directory.mkdir(parents=True, exist_ok=True)
      storage.remove_leftovers(self._directory)
    except OSError as error:
      raise ArgumentError(f'{self._directory} cannot be written: {error}') from error

  def _finish(self, step: int, contents: dict[str, Any]) -> None:
    """Waits until Orbax has written, then hashes, commits and prunes; runs in the background.

    With several processes this is safe beside training, because nothing here is a collective of
    devices. Orbax's own commit meets at barriers of the coordination service. The rest is file
    work of process 0, whose wait returns only after every process has written its part. Process 0
    tells the others the result at the next save, wait or close, in the main thread.
    """
    self._orbax.wait_until_finished()
    if jax.process_index() != 0:
      return
    self._steps.commit(step, contents)
    self._on_commit(step)
    try:
      self._steps.prune()
    except OSError as error:  # the step itself is good
      logging.warning('Old steps in %s cannot be deleted: %s', self._directory, error)

  def _join(self) -> SaveError | None:
    """Waits for the background thread and returns the error it ended with."""
    if self._finishing is None:
      return None
    step, future = self._finishing
    cause = future.exception()
    self._finishing = None  # after the wait: an interrupt during it must not lose the save
    return None if cause is None else self._save_error(step, cause)

  def _save_error(self, step: int, cause: BaseException) -> SaveError:
    """Cleans up after a failed save; returns an error that names the last good step."""
    self._drain()
    left = 'The directory cannot be read'
    # Storage that failed the save may fail here too. The first failure is the one to report.
    with contextlib.suppress(Exception):
      if jax.process_index() == 0:
        storage.remove_leftovers(self._directory)
      good = max(self._steps.good(), default=None)
      left = 'There is no good step' if good is None else f'The last good step is {good}'
    why = storage.reason(cause)
    error = SaveError(f'saving step {step} in {self._directory} failed: {why}. {left}.')
    error.__cause__ = cause
    return error

  def _make_room(self, step: int) -> None:
    """Sets a damaged step of this number aside, and announces the new one."""
    try:
      self._steps.make_room(step)
      storage.announce(self._directory, step)
    except UserError:
      raise
    except Exception as cause:  # of the clients of buckets
      raise self._save_error(step, cause) from cause

  def _restore(
    self,
    step: int | None,
    wanted: dict[str, str] | None,
    read: Callable[[epath.Path], ocp.args.Composite | dict[str, Any]],
  ) -> Restored | None:
    """Chooses a step, reads 'state' and 'extra' with `read`, and sets the skipped steps aside."""
    self.wait()
    failed: dict[int, str] = {}  # steps whose files are intact, though they cannot be read
    cause: Exception | None = None
    while True:
      choose = functools.partial(self._steps.choose, step, wanted, failed)
      try:
        choice = processes.on_process_zero(choose)
      except CheckpointError as error:
        raise error from cause
      if choice is None:
        return None
      chosen, skipped = choice
      restored, problem = None, ''
      try:
        restored = read(self._directory / str(chosen))
      except Exception as error:  # Orbax raises whatever its storage layer raised
        cause, problem = error, storage.reason(error)
        quiet.settle('orbax')
      if not processes.anywhere(bool(problem)) and restored is not None:
        break
      failed[chosen] = problem or 'another process could not read it'
    self.skipped = dict(skipped)
    if not self._read_only and jax.process_index() == 0:
      # Not earlier: if nothing can be restored, the next start must find the same steps again.
      for damaged in self.skipped:
        try:
          storage.set_aside(self._directory, damaged)
        except OSError as error:  # the next save of that step tries it again
          logging.warning('Step %d in %s cannot be moved: %s', damaged, self._directory, error)
    return Restored(chosen, restored['state'], restored['extra'])

  def _drain(self) -> None:
    """Takes the other errors of a failed save from Orbax; they would fail a later one."""
    for _ in range(_MOST_ERRORS):
      with contextlib.suppress(Exception):
        self._orbax.wait_until_finished()
        break
    quiet.settle('orbax')

  def _release(self) -> None:
    self._background.shutdown()
    self._orbax.close()
    self._quiet.end()


def _read_parts(parts: Sequence[str], path: epath.Path) -> dict[str, Any]:
  """Returns 'extra' and 'state' of a step. Of the state, only the named entries are read."""
  # Not the checkpointer of the class, because its handler of whole states cannot read parts.
  handler = ocp.PyTreeCheckpointHandler()
  tree = handler.metadata(path / 'state').tree
  tree = {name: tree[name] for name in parts if name in tree}
  for leaf in jax.tree.leaves(tree):
    if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
      raise TypeError(f'it holds {leaf.dtype}, for which JAX needs jax_enable_x64')
  if tree:  # Orbax refuses an empty one
    # First as NumPy arrays, because the devices of the save may be absent.
    kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    args = ocp.args.PyTreeRestore(tree, restore_args=kinds, partial_restore=True)
    tree = jax.device_put(_with_int_keys(handler.restore(path / 'state', args=args)))
  extra = ocp.JsonCheckpointHandler().restore(path / 'extra', args=ocp.args.JsonRestore())
  return {'state': tree, 'extra': extra}


def _with_int_keys(tree: PyTree) -> PyTree:
  """Turns the keys of dicts whose keys are all whole numbers into int. Orbax makes them strings."""
  if isinstance(tree, list | tuple):
    return [_with_int_keys(value) for value in tree]
  if not isinstance(tree, dict):
    return tree
  key_type = int if all(key.isdecimal() for key in tree) else str
  return {key_type(key): _with_int_keys(value) for key, value in tree.items()}


def _read_back(path: epath.Path, contents: dict[str, Any]) -> None:
  """Raises DamagedError unless Orbax can read all that a step holds."""
  try:
    state = ocp.PyTreeCheckpointHandler()
    tree = state.metadata(path / 'state').tree
    if jax.tree.leaves(tree):  # Orbax refuses an empty one
      kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
      tree = state.restore(path / 'state', args=ocp.args.PyTreeRestore(tree, restore_args=kinds))
    ocp.JsonCheckpointHandler().restore(path / 'extra', args=ocp.args.JsonRestore())
  except Exception as error:  # Orbax raises whatever its storage layer raised
    quiet.settle('orbax')
    raise manifest.DamagedError(f'it cannot be restored: {storage.reason(error)}') from error
  found, saved = len(jax.tree.leaves(tree)), len(contents['state'])
  if found != saved:
    raise manifest.DamagedError(f'it holds {found} arrays of {saved}')
