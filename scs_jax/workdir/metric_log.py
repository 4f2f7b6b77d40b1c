"""The metrics of a run: metrics.jsonl, TensorBoard events and the terminal, all from process 0."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import jax
import tensorboardX
import tqdm
from etils import epath

ROWS_A_PART = 500


class MetricLog:
  """Writes rows of metrics, and shows progress.

  Starting at a step drops the rows after it, because a resumed run writes them again.

  Args:
    workdir: where `metrics.jsonl` and the TensorBoard events go.
    start: the step to resume from, 0 for a new run.
    total_steps: where the progress bar ends.
    in_parts: for object stores, where nothing can be appended. Rows go to `metrics-000000.jsonl`,
      `metrics-000001.jsonl` and so on; each is rewritten until it holds 500 rows. No TensorBoard
      events are written.
  """

  def __init__(
    self, workdir: epath.Path, *, start: int, total_steps: int, in_parts: bool = False
  ) -> None:
    self._active = jax.process_index() == 0
    if not self._active:
      return
    self._rows = (_Parts if in_parts else _Lines)(workdir)
    self._folder, self._in_parts, self._events = workdir, in_parts, None
    # None shows no bar where the output is not a terminal.
    self._bar = tqdm.tqdm(total=total_steps, initial=start, unit='step', disable=None)
    self.rewind(start)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a row of metrics after `step` completed steps."""
    if not self._active:
      return
    self._rows.add({'step': step, **metrics})
    if self._events is not None:
      for name, value in metrics.items():
        self._events.add_scalar(name, value, step)
    self._bar.update(step - self._bar.n)

  def rewind(self, step: int) -> None:
    """Drops the rows after `step`, from which the run resumes."""
    if not self._active:
      return
    self._rows.rewind(step)
    if self._in_parts:
      return
    if self._events is not None:
      self._events.close()
    self._events = tensorboardX.SummaryWriter(str(self._folder), purge_step=step + 1)

  def say(self, text: str) -> None:
    """Prints a line, above the progress bar if one is shown."""
    if self._active:
      self._bar.write(text)

  def __enter__(self) -> 'MetricLog':
    return self

  def __exit__(self, *_: object) -> None:
    if self._active:
      self._bar.close()
      self._rows.close()
      if self._events is not None:
        self._events.close()


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
  """Rows in one file, to which they are appended."""

  def __init__(self, folder: epath.Path) -> None:
    self._path = folder / 'metrics.jsonl'
    self._file: IO[str] | None = None

  def rewind(self, step: int) -> None:
    self.close()
    self._path.write_text(_text(_rows_until(self._path, step)))
    self._file = self._path.open('a')

  def add(self, row: dict[str, Any]) -> None:
    assert self._file is not None, 'rewind opens the file'
    self._file.write(_text([row]))
    self._file.flush()

  def close(self) -> None:
    if self._file is not None:
      self._file.close()


class _Parts:
  """Rows in files that are always written as a whole."""

  def __init__(self, folder: epath.Path) -> None:
    self._folder, self._number = folder, 0
    self._kept: list[dict[str, Any]] = []

  def rewind(self, step: int) -> None:
    rows, paths = [], sorted(self._folder.glob('metrics-*.jsonl'))
    for path in paths:
      rows += _rows_until(path, step)
    full = len(rows) // ROWS_A_PART
    for number in range(full):  # the rows to keep come first, so that a kill loses nothing
      self._write(number, rows[number * ROWS_A_PART : (number + 1) * ROWS_A_PART])
    self._number, self._kept = full, rows[full * ROWS_A_PART :]
    self._write(full, self._kept)
    for path in paths[full + 1 :]:
      path.unlink()

  def add(self, row: dict[str, Any]) -> None:
    if len(self._kept) == ROWS_A_PART:
      self._number, self._kept = self._number + 1, []
    self._kept.append(row)
    self._write(self._number, self._kept)

  def close(self) -> None:
    pass  # everything is written

  def _write(self, number: int, rows: Sequence[dict[str, Any]]) -> None:
    (self._folder / f'metrics-{number:06d}.jsonl').write_text(_text(rows))


def _text(rows: Sequence[dict[str, Any]]) -> str:
  return ''.join(json.dumps(row) + '\n' for row in rows)


def _rows_until(path: epath.Path, step: int) -> list[dict[str, Any]]:
  """Returns the rows up to `step`. Drops a last line that a kill cut off."""
  rows = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      break
    if row['step'] <= step:
      rows.append(row)
  return rows
