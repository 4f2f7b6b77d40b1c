"""Keeps Orbax quiet about what its callers report in a line of their own."""

import functools
import logging as python_logging
import threading
import traceback

from absl import logging

_PATIENCE_SECONDS = 20.0


class Quiet:
  """Drops log records of a package: progress, and traces of errors that it raises as well.

  Args:
    folder: of the package.
  """

  def __init__(self, folder: str) -> None:
    self._filter = functools.partial(_is_wanted, folder)
    # asyncio prints the errors of tasks that nobody awaits any more.
    self._loggers = (logging.get_absl_logger(), python_logging.getLogger('asyncio'))
    for logger in self._loggers:
      logger.addFilter(self._filter)

  def end(self) -> None:
    """Lets the records through again."""
    for logger in self._loggers:
      logger.removeFilter(self._filter)


def join_threads(package: str) -> None:
  """Waits for the threads of classes of a package: those of a failed save go on writing."""
  for thread in threading.enumerate():
    if type(thread).__module__.startswith(f'{package}.'):
      thread.join(_PATIENCE_SECONDS)


def _is_wanted(folder: str, record: python_logging.LogRecord) -> bool:
  """A log filter."""
  if record.name != 'asyncio':
    return record.levelno == python_logging.WARNING or not record.pathname.startswith(folder)
  raised = record.exc_info[2] if record.exc_info else None
  return not any(frame.filename.startswith(folder) for frame in traceback.extract_tb(raised))
