"""Files that only grow: rows of metrics, and the events that TensorBoard shows."""

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from etils import epath
from tensorboardX.proto import event_pb2 as untyped_event_pb2
from tensorboardX.proto import summary_pb2 as untyped_summary_pb2
from tensorboardX.record_writer import masked_crc32c

from scs_jax.workdir import storage

# Generated code, whose names type checkers do not see.
event_pb2: Any = untyped_event_pb2
summary_pb2: Any = untyped_summary_pb2

_EVENTS = re.compile(r'events\.out\.tfevents\.(\d{10}(?:\.\d+)?)\.')  # seconds since 1970


class AppendedFile:
  """A file on a disk to which records are appended; it never ends in half a record.

  Records that the disk does not take stay in memory, and are tried again with the next ones.

  Args:
    path: the file. If it is absent, the first record makes it.

  Attributes:
    path: likewise.
  """

  def __init__(self, path: epath.Path) -> None:
    self.path = path
    self._waiting = b''
    self._descriptor: int | None = None

  def append(self, record: bytes) -> None:
    """Appends a record.

    Raises:
      OSError: it cannot be written now.
    """
    self._waiting += record
    self._write()

  def sync(self) -> None:
    """Returns once all records would survive a power failure.

    Raises:
      OSError: they would not.
    """
    self._write()
    if self._descriptor is not None:
      os.fsync(self._descriptor)

  def close(self) -> None:
    """Closes the file, after a last try to write what is waiting."""
    with contextlib.suppress(OSError):
      self._write()
    if self._descriptor is not None:
      os.close(self._descriptor)
      self._descriptor = None

  def _write(self) -> None:
    if not self._waiting:
      return
    if self._descriptor is None:
      self._descriptor = storage.open_own(self.path, os.O_WRONLY | os.O_APPEND)
      storage.sync_folder(self.path.parent)
    size, left = os.fstat(self._descriptor).st_size, self._waiting
    try:
      while left:
        left = left[os.write(self._descriptor, left) :]
    except OSError:
      os.ftruncate(self._descriptor, size)  # a part may have been written
      raise
    self._waiting = b''


class Events(AppendedFile):
  """A file of TensorBoard events, made with the first row.

  TensorBoardX itself hands events to a thread through a queue. If the disk is full the thread dies,
  its events are lost, and the queue blocks the run once it is full. So only its message types are
  used, and each record is written before `write` returns.

  Args:
    folder: where the file goes.
    purge_step: TensorBoard then hides what older files hold of this step and later ones.
  """

  def __init__(self, folder: epath.Path, purge_step: int) -> None:
    # TensorBoard reads files in the order of their names. The clock may have been set back.
    names = os.listdir(folder) if os.path.isdir(folder) else []
    others = [float(found[1]) for name in names if (found := _EVENTS.match(name))]
    begun = max([time.time(), *(other + 1 for other in others)])
    name = f'events.out.tfevents.{begun:.6f}.{socket.gethostname()}'
    super().__init__(folder / name)
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    version = event_pb2.Event(file_version='brain.Event:2')
    self._head = _record(version) + _record(event_pb2.Event(step=purge_step, session_log=start))

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Appends a row of metrics; raises OSError if it cannot be written now."""
    values = [
      summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()
    ]
    row = event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values))
    head, self._head = self._head, b''
    self.append(head + _record(row))


def _record(event: Any) -> bytes:
  """Returns an event in the form of a TFRecord: length and data, each with its checksum."""
  event.wall_time = time.time()
  data = event.SerializeToString()
  length = struct.pack('<Q', len(data))
  checksum = lambda part: struct.pack('<I', masked_crc32c(part))
  return length + checksum(length) + data + checksum(data)
