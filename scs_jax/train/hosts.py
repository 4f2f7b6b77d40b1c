"""Joins the processes of a run, and says within seconds what keeps them apart."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

from scs_jax.errors import ArgumentError

REACH_SECONDS = 5.0  # without an answer for so long, the coordinator's address is wrong
JOIN_SECONDS = 300.0  # hosts may start one after the other
# The coordinator speaks gRPC, that is HTTP/2: either side begins with a frame of settings.
_SETTINGS = 4
_GREETING = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


def join(distributed: bool) -> None:
  """Joins the other processes of a run, if there are any.

  Where JAX_COORDINATOR_ADDRESS is set, JAX_NUM_PROCESSES and JAX_PROCESS_ID say the rest.

  Args:
    distributed: whether JAX should find the hosts by itself, as on a TPU pod.

  Raises:
    ArgumentError: there are no others, or the address is wrong.
  """
  if 'JAX_COORDINATOR_ADDRESS' in os.environ:
    _join_at(os.environ['JAX_COORDINATOR_ADDRESS'], *_numbers())
  elif distributed:
    with _said_after(REACH_SECONDS, '--distributed is still looking for the hosts of this pod'):
      try:
        jax.distributed.initialize()
      except (ValueError, RuntimeError, OSError) as error:
        raise ArgumentError(
          f'--distributed found neither a TPU pod nor a Slurm or MPI job here ({error}): on one '
          'machine leave it out; elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and '
          'JAX_PROCESS_ID'
        ) from error


def _numbers() -> tuple[int, int]:
  """Returns how many processes there are, and which of them this is."""
  names = ('JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
  given = {name: os.environ.get(name, '') for name in names}
  if not all(value.isdecimal() for value in given.values()):
    raise ArgumentError(
      f'JAX_COORDINATOR_ADDRESS is set, so {" and ".join(names)} must be numbers, got {given}'
    )
  count, index = (int(given[name]) for name in names)
  if index >= count:
    raise ArgumentError(
      f'JAX_PROCESS_ID={index} must be below JAX_NUM_PROCESSES={count}: processes count from 0'
    )
  return count, index


def _join_at(address: str, count: int, index: int) -> None:
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ArgumentError(
      f'JAX_COORDINATOR_ADDRESS={address!r} must be HOST:PORT of process 0, such as 10.0.0.1:1234'
    )
  wrong = f'JAX_COORDINATOR_ADDRESS={address} does not answer process {index} of {count}' + (
    ': it must be an address of this machine' if index == 0 else '; start process 0 first'
  )
  others = f'process {index} waits for the other {count - 1} at {address}'
  reach = lambda: _reach(host.strip('[]'), int(port), wrong)
  if index:
    reach()  # process 0 listens from now on
  with (
    _watched(reach if index == 0 else lambda: None),
    _said_after(REACH_SECONDS, f'{others}; it gives up after {JOIN_SECONDS:.0f} s'),
    _said_after(JOIN_SECONDS, f'error: {others} in vain; start all of them', end=True),
  ):
    # JAX ends the process with a dump when its own time is over.
    seconds = round(2 * JOIN_SECONDS)
    try:
      jax.distributed.initialize(address, count, index, initialization_timeout=seconds)
    except RuntimeError as error:
      raise ArgumentError(
        f'process {index} of {count} cannot join at JAX_COORDINATOR_ADDRESS={address}: {error}. '
        'The port must be free on the machine of process 0, and each process needs an id of its own'
      ) from error


def _reach(host: str, port: int, wrong: str) -> None:
  """Returns when a coordinator listens; raises ArgumentError if none does in time."""
  until, reason = time.monotonic() + REACH_SECONDS, ''
  while (left := until - time.monotonic()) > 0:
    try:
      with socket.create_connection((host, port), timeout=left) as connection:
        connection.sendall(_GREETING)
        if connection.recv(9)[3:4] == bytes([_SETTINGS]):
          return
      reason = 'something else listens there'
    except socket.gaierror as error:
      reason = str(error)
      break
    except OSError as error:
      reason = str(error)
    time.sleep(0.2)
  raise ArgumentError(f'{wrong} ({reason})')


@contextlib.contextmanager
def _watched(check: Callable[[], None]) -> Iterator[None]:
  """Ends the process with one line if `check` fails meanwhile; the main thread waits in C++."""

  def run() -> None:
    try:
      check()
    except ArgumentError as error:
      if not done.is_set():
        _say(f'error: {error}', end=True)

  done = threading.Event()
  threading.Thread(target=run, daemon=True).start()
  try:
    yield
  finally:
    done.set()


@contextlib.contextmanager
def _said_after(seconds: float, line: str, end: bool = False) -> Iterator[None]:
  """Prints a line if the context lasts longer, and ends the process then if `end`."""
  timer = threading.Timer(seconds, _say, (line, end))
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _say(line: str, end: bool) -> None:
  print(line, file=sys.stderr, flush=True)
  if end:
    os._exit(1)
