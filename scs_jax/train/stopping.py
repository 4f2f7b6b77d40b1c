"""Stopping in order: SIGTERM and SIGINT are noticed, and every process stops after the same step."""

import os
import signal
import threading
import types

import jax
from jax.experimental import multihost_utils


class StopRequest:
  """Notices the first SIGTERM or SIGINT while it is entered; a second one does what it always did.

  With several processes, a signal to one of them stops them all: JAX's preemption service, which
  `jax.distributed.initialize` starts, chooses a step that none of them has passed.
  """

  def __init__(self):
    self._noticed = ''
    self._before: dict[int, object] = {}

  def __enter__(self) -> 'StopRequest':
    if threading.current_thread() is not threading.main_thread():
      return self  # Python delivers signals to the main thread alone
    several = jax.process_count() > 1
    # SIGTERM then belongs to JAX's service, whose handler must stay.
    watched = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    for number in watched:
      self._before[number] = signal.signal(number, self._notice)
    return self

  def __exit__(self, *_: object) -> None:
    self._restore()

  def requested(self, step: int) -> str:
    """Returns what asked to stop before `step` is made, the same everywhere; '' if nothing did."""
    if jax.process_count() > 1:
      return (
        'a signal to one process' if multihost_utils.reached_preemption_sync_point(step) else ''
      )
    return self._noticed

  def _notice(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self._noticed = signal.Signals(number).name
    self._restore()
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)  # which the service passes on to the others

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}
