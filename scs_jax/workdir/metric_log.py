"""The metrics of a run: metrics.jsonl, TensorBoard events and the terminal, all from process 0."""

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import tqdm
from absl import logging
from etils import epath

from scs_jax.errors import ArgumentError
from scs_jax.workdir import processes, storage
from scs_jax.workdir.appended import AppendedFile, Events
from scs_jax.workdir.processes import SaveError

ROWS_A_PART = 500
_ROWS, _EVENTS = 'rows of metrics', 'TensorBoard events'


class MetricLog:
  """Writes rows of metrics, and shows progress.

  Starting at a step drops the rows after it, because a resumed run writes them again.

  Args:
    workdir: where `metrics.jsonl` and the TensorBoard events go.
    start: the step to resume from, 0 for a new run.
    total_steps: where the progress bar ends.
    rows: what `sync` returned when that step was saved. Lines that were changed since then are
      dropped and counted. None keeps every line that can be read.
    in_parts: for object stores, where nothing can be appended. Rows go to `metrics-000000.jsonl`,
      `metrics-000001.jsonl` and so on; each is rewritten until it holds 500 rows. No TensorBoard
      events are written.
    keep_going: what cannot be written is reported once, kept in memory and tried again, instead of
      raised.

  Raises:
    ArgumentError: the rows up to `start` are missing, of another run, or cannot be read.
    SaveError: the rows cannot be written.
  """

  def __init__(
    self,
    workdir: epath.Path,
    *,
    start: int,
    total_steps: int,
    rows: Sequence[int] | None = None,
    in_parts: bool = False,
    keep_going: bool = False,
  ) -> None:
    self._active = jax.process_index() == 0
    self._folder, self._keep_going = workdir, keep_going
    self._rows = (_Parts if in_parts else _Lines)(workdir)
    self._events: Events | None = None
    self._reported: set[str] = set()  # files that cannot be written now
    self.rewind(start, rows)
    if self._active:
      # None shows no bar where the output is not a terminal.
      self._bar = tqdm.tqdm(total=total_steps, initial=start, unit='step', disable=None)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a row of metrics after `step` completed steps.

    Raises:
      SaveError: it cannot be written, and `keep_going` is not set.
    """
    if not self._active:
      return
    self._try(step, _ROWS, lambda: self._rows.add({'step': step, **metrics}))
    if (events := self._events) is not None:
      self._try(step, _EVENTS, lambda: events.write(step, metrics))
    self._bar.update(step - self._bar.n)

  def sync(self, step: int) -> list[int]:
    """Returns once all rows are on disk; call it before a checkpoint. A collective, like `rewind`.

    Returns:
      A CRC-32 of each row, for the checkpoint to keep.

    Raises:
      SaveError: the rows cannot be written; or the events cannot, and `keep_going` is not set.
    """

    def sync() -> None:
      try:
        self._rows.sync()
      except OSError as error:
        raise self._problem(step, _ROWS, error) from error
      if self._events is not None:
        self._try(step, _EVENTS, self._events.sync)

    processes.on_process_zero(sync)
    return self._rows.digests

  def rewind(self, step: int, rows: Sequence[int] | None = None) -> None:
    """Drops the rows after `step`, from which the run resumes.

    Args:
      step: of the checkpoint.
      rows: what `sync` returned when it was saved; None if it was saved without.

    Raises:
      ArgumentError: as the class.
      SaveError: likewise.
    """

    def rewind() -> None:
      try:
        lost = self._rows.rewind(step, rows)
      except OSError as error:
        raise self._problem(step, _ROWS, error) from error
      if lost:
        logging.warning('%d rows up to step %d in %s were damaged', lost, step, self._folder)

    processes.on_process_zero(rewind)
    if self._events is not None:
      self._events.close()
    if self._active and isinstance(self._rows, _Lines):
      self._events = Events(self._folder, step + 1)

  def say(self, text: str) -> None:
    """Prints a line, above the progress bar if one is shown."""
    if self._active:
      with contextlib.suppress(OSError):  # the log of a launcher may be on the same full disk
        self._bar.write(text)

  def __enter__(self) -> 'MetricLog':
    return self

  def __exit__(self, *_: object) -> None:
    if self._active:
      self._bar.close()
      self._rows.close()
      if self._events is not None:
        self._events.close()

  def _try(self, step: int, what: str, write: Callable[[], None]) -> None:
    try:
      write()
    except OSError as error:
      problem = self._problem(step, what, error)
      if not self._keep_going:
        raise problem from error
      if what not in self._reported:
        self.say(f'{problem}. Training continues, and they are tried again')
      self._reported.add(what)
    else:
      self._reported.discard(what)

  def _problem(self, step: int, what: str, error: OSError) -> SaveError:
    return SaveError(
      f'{what} of step {step} cannot be written in {self._folder}: {storage.reason(error)}'
    )


class Rate:
  """Counts examples per second."""

  def __init__(self) -> None:
    self.restart()

  def restart(self) -> None:
    """Sets the count to 0 and restarts the clock."""
    self._examples, self._since = 0, time.perf_counter()

  def count(self, examples: int) -> None:
    """Adds examples that were processed."""
    self._examples += examples

  def read(self) -> dict[str, float]:
    """Returns 'train/images_per_second', or nothing if no example was counted."""
    seconds = time.perf_counter() - self._since
    return {'train/images_per_second': self._examples / seconds} if self._examples else {}


class _Lines:
  """Rows in one file, to which they are appended.

  Attributes:
    digests: a CRC-32 of each row.
  """

  def __init__(self, folder: epath.Path) -> None:
    self._file = AppendedFile(folder / 'metrics.jsonl')
    self.digests: list[int] = []

  def rewind(self, step: int, rows: Sequence[int] | None) -> int:
    """Drops the rows after `step`; returns how many up to it are damaged."""
    path = self._file.path
    self._file.close()
    try:
      before = storage.read_whole(path) if path.exists() else None
    except OSError as error:
      raise ArgumentError(
        f'{path} cannot be read: {error.strerror}. Put the right one back, or make an empty file '
        'of that name to go on without the earlier rows'
      ) from error
    kept, lost = _rows_until(path, before, step, rows)
    if before is not None and before != b''.join(kept):
      storage.write_whole(path, b''.join(kept))
    self._file = AppendedFile(path)
    self.digests = [zlib.crc32(line) for line in kept]
    return lost

  def add(self, row: dict[str, Any]) -> None:
    line = _line(row)
    self.digests.append(zlib.crc32(line))
    self._file.append(line)

  def sync(self) -> None:
    self._file.sync()
    if self.digests and not os.path.isfile(self._file.path):
      raise FileNotFoundError(f'{self._file.path.name} was removed')

  def close(self) -> None:
    self._file.close()


class _Parts:
  """Rows in files that are always written as a whole.

  Attributes:
    digests: a CRC-32 of each row.
  """

  def __init__(self, folder: epath.Path) -> None:
    self._folder, self._number = folder, 0
    self._kept: list[bytes] = []
    self.digests: list[int] = []

  def rewind(self, step: int, rows: Sequence[int] | None) -> int:
    """Drops the rows after `step`; returns how many up to it are damaged."""
    paths = sorted(path for path in self._folder.iterdir() if _is_part(path.name))
    before = b''.join(path.read_bytes() for path in paths) if paths else None
    kept, lost = _rows_until(self._path(0), before, step, rows)
    full = len(kept) // ROWS_A_PART
    for number in range(full):  # the rows to keep come first, so that a kill loses nothing
      self._write(number, kept[number * ROWS_A_PART : (number + 1) * ROWS_A_PART])
    self._number, self._kept = full, kept[full * ROWS_A_PART :]
    self._write(full, self._kept)
    for path in paths[full + 1 :]:
      path.unlink()
    self.digests = [zlib.crc32(line) for line in kept]
    return lost

  def add(self, row: dict[str, Any]) -> None:
    if len(self._kept) == ROWS_A_PART:
      self._number, self._kept = self._number + 1, []
    self._kept.append(_line(row))
    self.digests.append(zlib.crc32(self._kept[-1]))
    self.sync()

  def sync(self) -> None:
    self._write(self._number, self._kept)

  def close(self) -> None:
    pass  # everything is written

  def _write(self, number: int, lines: Sequence[bytes]) -> None:
    storage.write_whole(self._path(number), b''.join(lines))

  def _path(self, number: int) -> epath.Path:
    return self._folder / f'metrics-{number:06d}.jsonl'


def _is_part(name: str) -> bool:
  return name.startswith('metrics-') and name.endswith('.jsonl')


def _line(row: dict[str, Any]) -> bytes:
  return f'{json.dumps(row)}\n'.encode()


def _rows_until(
  path: epath.Path, text: bytes | None, step: int, rows: Sequence[int] | None
) -> tuple[list[bytes], int]:
  """Returns the lines to keep, and how many are damaged.

  Args:
    path: of the file, for messages.
    text: what it holds; None if it is absent.
    step: the last one whose rows are kept.
    rows: a CRC-32 of every line to keep; None if they are not known.

  Raises:
    ArgumentError: the file is absent, or holds other lines only.
  """
  if step and text is None:
    raise ArgumentError(
      f'{path} is missing, though a run goes on at step {step} there: put it back, or make an '
      'empty file of that name to go on without the earlier rows'
    )
  lines = [line + b'\n' for line in (text or b'').split(b'\n')]
  if lines[-1] == b'\n':  # behind the last line, which a cut may leave without its end
    lines.pop()
  if rows is None:
    steps = [_step_of(line) for line in lines]
    kept = [line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step]
    return kept, steps[:-1].count(None)  # a kill may have cut off the last line
  known = {zlib.crc32(line): line for line in lines}
  kept = [known[digest] for digest in rows if digest in known]
  if rows and lines and not kept:
    raise ArgumentError(
      f'{path} is not of this run: put the right one back, or make an empty file of that name to '
      'go on without the earlier rows'
    )
  return kept, len(rows) - len(kept)


def _step_of(line: bytes) -> int | None:
  """Returns the step of a row; None if the line is damaged."""
  try:
    step = json.loads(line)['step']
  except (ValueError, LookupError, TypeError, RecursionError):
    return None
  return step if isinstance(step, int) else None
