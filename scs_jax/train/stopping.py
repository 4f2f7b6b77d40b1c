"""Clean stops: after SIGTERM or SIGINT, every process stops after the same step."""

import os
import signal
import threading
import types
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopRequest:
  """Records the first SIGTERM or SIGINT inside its context. A second one has its usual effect.

  With several processes, a signal to one of them stops all. JAX's preemption service, which
  `jax.distributed.initialize` starts, chooses a step that no process has passed.

  Example:
    >>> with StopRequest() as stop:  # doctest: +SKIP
    ...   while not stop.requested(step):
    ...     step += 1
  """

  def __init__(self) -> None:
    self._noticed = ''
    self._before: dict[signal.Signals, Any] = {}  # the handlers to restore

  def __enter__(self) -> 'StopRequest':
    if threading.current_thread() is not threading.main_thread():
      return self  # Python allows signal handlers only in the main thread
    several = jax.process_count() > 1
    # With several processes, SIGTERM belongs to JAX's service, whose handler must stay.
    watched = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    for number in watched:
      self._before[number] = signal.signal(number, self._notice)
    return self

  def __exit__(self, *_: object) -> None:
    self._restore()

  def requested(self, step: int) -> str:
    """Returns why to stop after `step` completed steps, or ''.

    With several processes, each must ask at every step. All of them get the same answer.
    """
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
      os.kill(os.getpid(), signal.SIGTERM)  # the service passes it on to the other processes

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}
