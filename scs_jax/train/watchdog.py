"""Reports a stalled host, data worker or device."""

import faulthandler
import sys
import threading
import time

import jax


class Watchdog:
  """Inside its context, reports on stderr when `alive` was not called for too long.

  It stops nothing, because a slow file system may recover. The report shows the stack of every
  thread of this process.

  Args:
    seconds: time without a call of `alive` before a report, and between repeated reports.
  """

  def __init__(self, seconds: float) -> None:
    self._seconds = seconds
    self._alive_at, self._doing = time.monotonic(), 'starting'
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

  def alive(self, doing: str) -> None:
    """Records that the loop makes progress.

    Args:
      doing: what the loop does next, for the report.
    """
    self._alive_at, self._doing = time.monotonic(), doing

  def __enter__(self) -> 'Watchdog':
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._end.set()
    self._thread.join()

  def _watch(self) -> None:
    reported_at = self._alive_at
    while not self._end.wait(min(self._seconds / 4, 10.0)):
      silent = time.monotonic() - max(self._alive_at, reported_at)
      if silent >= self._seconds:
        reported_at = time.monotonic()
        print(
          f'process {jax.process_index()}: no progress for '
          f'{reported_at - self._alive_at:.0f} s while {self._doing}; the stacks of its threads:',
          file=sys.stderr,
          flush=True,
        )
        if sys.__stderr__ is not None:
          faulthandler.dump_traceback(sys.__stderr__)
