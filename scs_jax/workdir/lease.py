"""Who holds a workdir: the text of the file `lock`, and how a bucket does without locks.

In a bucket `lock` is an object that only its holder rewrites, every 20 seconds. Google's storage
makes each of these writes depend on the object's generation, so of two processes that want the
object one gets it. A second process that finds the object watches it. If it changes, the holder is
alive and the second process is refused. If it does not change for a minute, the holder was killed
or preempted, and the second process takes its place. No clock is compared with another.

Limits: a killed run holds its bucket for one more minute. A process that could not reach the bucket
for a minute, or was suspended as long, loses it. It notices at its next row of metrics or save,
and a save that was under way then may still be committed.
"""

import contextlib
import functools
import itertools
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath

from scs_jax.errors import ArgumentError
from scs_jax.workdir import buckets, storage
from scs_jax.workdir.processes import WorkdirError

BEAT_SECONDS = 20.0
DEAD_SECONDS = 60.0


@functools.cache
def _token(pid: int) -> str:
  """Returns what tells this process from all others, also from those of the same number."""
  return f'{pid} {secrets.token_hex(8)}'


def holder() -> str:
  """Returns the text of a `lock` that this process holds."""
  return f'process {os.getpid()} on {socket.gethostname()}\n{_token(os.getpid())}\n'


def in_use(lock: epath.Path, text: str) -> WorkdirError:
  """Returns the error of a process that finds `text` in the `lock` of another."""
  who = (text.strip().splitlines() or ['another process'])[0]
  return WorkdirError(
    f'--workdir {lock.parent} is in use by {who}: wait until it ends, or use another workdir'
  )


def check_held(lock: epath.Path) -> None:
  """Raises WorkdirError if another process took the place of this one."""
  try:
    text = storage.read_whole(lock).decode(errors='replace')
  except FileNotFoundError:
    text = ''
  except Exception:  # an outage; what is written next will report it
    return
  if not text.startswith(holder()):
    who = text.partition('\n')[0] or 'nobody'
    raise WorkdirError(
      f'--workdir {lock.parent} is now held by {who}: its {lock.name} was removed or replaced. '
      'Make sure that no other run writes there, and run the same command again'
    )


@contextlib.contextmanager
def hold(lock: epath.Path) -> Iterator[None]:
  """Holds an object of a bucket, rewriting it in a thread.

  Raises:
    ArgumentError: the client for buckets is missing, or the bucket cannot be written.
    WorkdirError: another process holds the object.
  """
  lease = _Lease(buckets.blob(lock))
  try:
    taken = lease.take()
  except Exception as error:  # of the network, the credentials or the bucket: many kinds
    raise ArgumentError(
      f'--workdir {lock.parent} cannot be claimed: {storage.reason(error)}'
    ) from error
  if not taken:
    raise in_use(lock, lease.text)
  with lease:
    yield


class _Lease:
  """An object that says who holds a bucket.

  Args:
    blob: the object, a `google.cloud.storage.Blob`.

  Attributes:
    text: what the object held when it was seen last.
  """

  def __init__(self, blob: Any) -> None:
    self.text = ''
    self._blob = blob
    self._name, self._beats = secrets.token_hex(8), itertools.count()
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._beat, name='lease', daemon=True)

  def take(self) -> bool:
    """Creates the object, or replaces that of a dead holder; returns whether it did."""
    if self._write(0):
      return True
    found = self._look()
    logging.warning(
      '%s belongs to %s: waiting up to %d s to see whether it is alive',
      self._blob.name,
      self.text.partition('\n')[0],
      DEAD_SECONDS,
    )
    dead = time.monotonic() + DEAD_SECONDS
    while found and time.monotonic() < dead:
      time.sleep(min(BEAT_SECONDS / 4, DEAD_SECONDS / 4))
      if (seen := self._look()) != found:
        if seen:
          return False
        found = 0
    return self._write(found)

  def __enter__(self) -> None:
    self._thread.start()

  def __exit__(self, *_: object) -> None:
    self._end.set()
    self._thread.join()
    with contextlib.suppress(Exception):  # if it stays, the next run waits a minute
      self._blob.delete(if_generation_match=self._generation, **buckets.limits())

  def _beat(self) -> None:
    while not self._end.wait(BEAT_SECONDS):
      try:
        if not self._write(self._generation):
          return  # lost: `check_held` finds it out
      except Exception:  # an outage; the next beat tries again
        continue

  def _write(self, generation: int) -> bool:
    """Writes the object if it is still of that generation, 0 meaning absent."""
    from google.api_core.exceptions import PreconditionFailed

    text = f'{holder()}{self._name} {next(self._beats)}\n'
    try:
      self._blob.upload_from_string(text, if_generation_match=generation, **buckets.limits())
      self._generation = self._blob.generation
    except PreconditionFailed:
      # A write whose answer was lost is repeated by the client, and then meets itself.
      found = self._look()
      if self.text != text:
        return False
      self._generation = found
    return True

  def _look(self) -> int:
    """Reads the object; returns its generation, or 0 if it is absent."""
    from google.api_core.exceptions import NotFound

    try:
      self.text = self._blob.download_as_text(**buckets.limits())
      self._blob.reload(**buckets.limits())
      return self._blob.generation
    except NotFound:
      return 0
