"""Appended files never end in half a record, and TensorBoard's records are as it defines them."""

import os
import struct

import google_crc32c
import pytest
from etils import epath
from tensorboardX.proto import event_pb2

from scs_jax.workdir.appended import AppendedFile, Events


@pytest.fixture
def folder(tmp_path):
  return epath.Path(tmp_path)


def narrow(monkeypatch, free):
  """A disk with so many free bytes; what fits of a write is written, as the kernel does it."""
  left, write = [free], os.write

  def limited(descriptor, data):
    if not left[0]:
      raise OSError(28, 'No space left on device')
    written = write(descriptor, data[: left[0]])
    left[0] -= written
    return written

  monkeypatch.setattr(os, 'write', limited)


def test_records_that_do_not_fit_wait_until_they_do(folder, monkeypatch):
  file = AppendedFile(folder / 'rows')
  file.append(b'first\n')
  with monkeypatch.context() as patch:
    narrow(patch, 9)
    file.append(b'second\n')
    for record in (b'third\n', b'fourth\n'):
      with pytest.raises(OSError, match='No space left'):
        file.append(record)
      assert (folder / 'rows').read_bytes() == b'first\nsecond\n'
    with pytest.raises(OSError, match='No space left'):
      file.sync()
  file.sync()
  assert (folder / 'rows').read_bytes() == b'first\nsecond\nthird\nfourth\n'
  file.close()


def test_a_file_that_cannot_be_made_is_made_later(folder, monkeypatch):
  file = AppendedFile(folder / 'absent' / 'rows')
  with pytest.raises(FileNotFoundError):
    file.append(b'first\n')
  (folder / 'absent').mkdir()
  file.close()
  assert (folder / 'absent' / 'rows').read_bytes() == b'first\n'


def records(path):
  """Reads TFRecords; the checksums are computed by Google's own library."""
  data = path.read_bytes()
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    check(data[:8], data[8:12])
    check(data[12 : 12 + length], data[12 + length : 16 + length])
    yield event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]


def check(part, checksum):
  value = google_crc32c.value(part)
  masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
  assert struct.unpack('<I', checksum) == (masked,)


def test_events_are_on_disk_as_soon_as_they_are_written(folder):
  events = Events(folder, purge_step=6)
  assert not list(folder.iterdir())
  for step in (6, 7):
    events.write(step, {'train/loss': 0.5 * step, 'val/accuracy': 0.25})
  (path,) = folder.iterdir()
  version, start, *rows = records(path)
  assert version.file_version == 'brain.Event:2'
  assert (start.step, start.session_log.status) == (6, event_pb2.SessionLog.START)
  values = [[(v.tag, v.simple_value) for v in row.summary.value] for row in rows]
  assert [row.step for row in rows] == [6, 7]
  assert values == [[('train/loss', 0.5 * s), ('val/accuracy', 0.25)] for s in (6, 7)]
  assert all(row.wall_time > 1e9 for row in rows)
  events.close()


def test_a_clock_that_was_set_back_leaves_the_order_of_the_files(folder):
  later = ['events.out.tfevents.9000000000.host', 'events.out.tfevents.9100000000.5.other.host']
  for name in [*later, 'events.out.tfevents.of_mine']:
    (folder / name).touch()
  events = Events(folder, purge_step=1)
  events.write(1, {'x': 1.0})
  events.close()
  assert sorted([*later, events.path.name])[-1] == events.path.name
  assert events.path.name.startswith('events.out.tfevents.9100000001.5')


def test_two_files_of_one_second_have_two_names(folder):
  for _ in range(3):
    events = Events(folder, purge_step=1)
    events.write(1, {'x': 1.0})
    events.close()
  assert len(list(folder.iterdir())) == 3
