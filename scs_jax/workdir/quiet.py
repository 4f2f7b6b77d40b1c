"""Keeps Orbax quiet about what its callers report in a line of their own.

When a save fails, say on a full disk, Orbax raises the error. It also logs a trace in each of its
threads, and leaves tasks behind that print more traces when they find their event loop closed, or
when they are collected.
"""

import functools
import gc
import logging as python_logging
import sys
import threading
import time
import traceback
from typing import Any

from absl import logging

_PATIENCE_SECONDS = 20.0


class Quiet:
  """Drops the progress that a package logs, and traces of errors that it raises as well.

  Args:
    folder: of the package.
  """

  def __init__(self, folder: str) -> None:
    def is_wanted(record: python_logging.LogRecord) -> bool:
      return record.levelno == python_logging.WARNING or not record.pathname.startswith(folder)

    self._filter = is_wanted
    logging.get_absl_logger().addFilter(self._filter)
    _hush_late_tasks(folder)

  def end(self) -> None:
    """Lets the log records through again."""
    logging.get_absl_logger().removeFilter(self._filter)


@functools.cache  # once is enough, and it stays: such tasks may be collected at any time
def _hush_late_tasks(folder: str) -> None:
  """Keeps Python from printing what the tasks of a failed save raise when nobody waits for them."""
  before = sys.unraisablehook

  def hook(error: Any) -> None:
    late = error.object is None and str(error.exc_value) == 'Event loop is closed'
    if not late and not _is_in(folder, error.exc_traceback):
      before(error)

  def is_wanted(record: python_logging.LogRecord) -> bool:
    return not _is_in(folder, record.exc_info[2] if record.exc_info else None)

  sys.unraisablehook = hook
  python_logging.getLogger('asyncio').addFilter(is_wanted)


def _is_in(folder: str, raised: Any) -> bool:
  """Whether a traceback leads through a file of `folder`."""
  return any(frame.filename.startswith(folder) for frame in traceback.extract_tb(raised))


def settle(package: str) -> None:
  """Waits for the threads of a package, and collects its tasks, after one of them failed.

  Such threads would write into what is cleaned up next.
  """
  until = time.monotonic() + _PATIENCE_SECONDS
  for thread in threading.enumerate():
    if type(thread).__module__.startswith(f'{package}.'):
      # Their own `join` raises their error.
      threading.Thread.join(thread, max(0.0, until - time.monotonic()))
  gc.collect()
