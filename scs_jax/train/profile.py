"""A profile of some training steps, for XProf or Perfetto."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from scs_jax.workdir import write_whole

_FIRST = 2  # steps that are left out: the first compiles, the second still waits for it


class Profile:
  """Traces `steps` training steps, on process 0; nothing if that is 0.

  The files appear in `folder` as a whole, once the steps are made. A profile that cannot be made
  or written is reported, and never stops a run.

  Args:
    folder: gets the files; `tensorboard --logdir` takes it, with the plug-in xprof.
    steps: to trace.
    say: prints a line.

  Example:
    >>> with Profile(folder, 10, print) as profile:  # doctest: +SKIP
    ...   for step in range(100):
    ...     profile.before(step, state)
    ...     state = train_step(state)
  """

  def __init__(self, folder: epath.Path, steps: int, say: Callable[[str], None]) -> None:
    self._folder, self._say = folder, say
    self._left = steps if jax.process_index() == 0 else 0
    self._drafts: tempfile.TemporaryDirectory | None = None

  def before(self, step: int, last: Any) -> None:
    """Starts or ends the trace, if it is time to.

    Args:
      step: the number of steps that this process has made.
      last: arrays of the step before.
    """
    if not self._left or step < _FIRST:
      return
    if self._drafts is None:
      self._start(last)
      return
    self._left -= 1
    if not self._left:
      self._stop(last)

  def __enter__(self) -> 'Profile':
    return self

  def __exit__(self, *_: object) -> None:
    if self._drafts is not None:
      self._stop(None)
    elif self._left:
      self._say(f'no profile: this process made no more than {_FIRST} steps, which are left out')

  def _start(self, last: Any) -> None:
    jax.block_until_ready(last)
    self._drafts = tempfile.TemporaryDirectory()
    try:
      jax.profiler.start_trace(self._drafts.name)
    except RuntimeError as error:  # somebody else is tracing
      self._drafts.cleanup()
      self._drafts, self._left = None, 0
      self._say(f'no profile: {error}')

  def _stop(self, last: Any) -> None:
    assert self._drafts is not None
    try:
      jax.block_until_ready(last)
      jax.profiler.stop_trace()
      drafts = pathlib.Path(self._drafts.name)
      for draft in drafts.rglob('*'):
        if draft.is_file():
          target = self._folder / draft.relative_to(drafts)
          target.parent.mkdir(parents=True, exist_ok=True)
          write_whole(target, draft.read_bytes())
      self._say(f'the profile is in {self._folder}')
    except (OSError, RuntimeError) as error:
      self._say(f'no profile: {error}')
    finally:
      self._drafts.cleanup()
      self._drafts, self._left = None, 0
