"""What Orbax prints about errors that it raises as well is dropped, and nothing else."""

import gc
import logging as python_logging
import sys
import threading

import pytest
from absl import logging

from scs_jax.workdir import quiet

NOISE = """
import asyncio, threading
from absl import logging

def log():
  logging.info('progress')
  logging.warning('be careful')
  try:
    raise OSError('full')
  except OSError:
    logging.exception('thread failed')

def leave_a_task():
  async def fail():
    raise OSError('full')
  async def main():
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)
  asyncio.run(main())

class Unraisable:
  def __del__(self):
    raise OSError('full')

class Thread(threading.Thread):
  def run(self):
    self.done = True
  def join(self):
    raise OSError('full')
"""


@pytest.fixture
def package(tmp_path):
  """A package that behaves as Orbax does, and its folder."""
  names = {'__name__': 'noisy.module'}
  path = tmp_path / 'noisy' / 'module.py'
  exec(compile(NOISE, str(path), 'exec'), names)
  return names, str(path.parent)


@pytest.fixture
def restored():
  asyncio, hook = python_logging.getLogger('asyncio'), sys.unraisablehook
  filters = list(asyncio.filters)
  yield
  asyncio.filters[:], sys.unraisablehook = filters, hook


def test_only_its_warnings_remain(package, restored, caplog):
  names, folder = package
  unraised = []
  sys.unraisablehook = lambda error: unraised.append(str(error.exc_value))
  logging.get_absl_logger().addHandler(caplog.handler)
  silence = quiet.Quiet(folder)
  try:
    names['log']()
    logging.error('ours')
    names['leave_a_task']()
    names['Unraisable']()
    gc.collect()
  finally:
    silence.end()
    logging.get_absl_logger().removeHandler(caplog.handler)
  names['leave_a_task']()  # a task may be collected later
  gc.collect()
  assert {record.getMessage() for record in caplog.records} == {'be careful', 'ours'}
  assert unraised == []


def test_other_errors_are_printed(restored):
  unraised = []
  sys.unraisablehook = lambda error: unraised.append(str(error.exc_value))
  quiet.Quiet('/nowhere').end()

  class Ours:
    def __del__(self):
      raise OSError('ours')

  Ours()
  gc.collect()
  assert unraised == ['ours']


def test_threads_are_waited_for_even_if_they_failed(package):
  names, _ = package
  thread = names['Thread']()
  thread.start()
  quiet.settle('noisy')
  assert thread.done
  assert thread not in threading.enumerate()
