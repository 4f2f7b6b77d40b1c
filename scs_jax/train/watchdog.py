"""Says so when nothing happens: a stalled host, data worker or device."""

import faulthandler
import sys
import threading
import time

import jax


class Watchdog:
  """While it is entered, reports on stderr when `alive` was not called for too long.

  It does not stop anything: a slow file system may come back. The report has the stack of every
  thread, so that one sees what is waited for.

  Args:
    seconds: how long is too long; the report is repeated after as long again.
  """

  def __init__(self, seconds: float):
    self._seconds = seconds
    self._alive_at, self._doing = time.monotonic(), 'starting'
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

  def alive(self, doing: str) -> None:
    """Says that the loop goes on, and what it does next."""
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
        faulthandler.dump_traceback(sys.__stderr__)
