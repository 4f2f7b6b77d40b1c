"""What a run says: metrics.jsonl, TensorBoard and the terminal, all from process 0."""

import json
import time
from collections.abc import Mapping

import jax
import tensorboardX
import tqdm
from etils import epath


class MetricLog:
  """Writes rows of metrics, and shows progress.

  Starting at a step drops the rows after it: a resumed run writes them anew.

  Args:
    workdir: where `metrics.jsonl` and the TensorBoard events go.
    start: the step to go on from, 0 for a new run.
    total_steps: where the progress bar ends.
  """

  def __init__(self, workdir: epath.Path, *, start: int, total_steps: int):
    self._active = jax.process_index() == 0
    if not self._active:
      return
    self._path, self._file, self._events = workdir / 'metrics.jsonl', None, None
    # None: no bar where the output is not a terminal.
    self._bar = tqdm.tqdm(total=total_steps, initial=start, unit='step', disable=None)
    self.rewind(start)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds the row of `step`, the number of steps completed."""
    if not self._active:
      return
    self._file.write(json.dumps({'step': step, **metrics}) + '\n')
    self._file.flush()
    for name, value in metrics.items():
      self._events.add_scalar(name, value, step)
    self._bar.update(step - self._bar.n)

  def rewind(self, step: int) -> None:
    """Drops the rows after `step`, from which the run goes on."""
    if not self._active:
      return
    if self._file is not None:
      self._file.close()
      self._events.close()
    rows = _rows_until(self._path, step)
    self._path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    self._file = self._path.open('a')
    self._events = tensorboardX.SummaryWriter(str(self._path.parent), purge_step=step + 1)

  def say(self, text: str) -> None:
    """Prints a line, above the progress bar if there is one."""
    if self._active:
      self._bar.write(text)

  def __enter__(self) -> 'MetricLog':
    return self

  def __exit__(self, *_: object) -> None:
    if self._active:
      self._bar.close()
      self._events.close()
      self._file.close()


class Rate:
  """Examples a second since the last restart."""

  def __init__(self):
    self.restart()

  def restart(self) -> None:
    """Forgets what was counted, and starts the clock."""
    self._examples, self._since = 0, time.perf_counter()

  def count(self, examples: int) -> None:
    """Adds examples that were worked on."""
    self._examples += examples

  def read(self) -> dict[str, float]:
    """Returns 'train/images_per_second', or nothing if no example was counted."""
    seconds = time.perf_counter() - self._since
    return {'train/images_per_second': self._examples / seconds} if self._examples else {}


def _rows_until(path: epath.Path, step: int) -> list[dict]:
  """Returns the rows up to `step`; a last line that was cut off by a kill is dropped."""
  rows = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      break
    if row['step'] <= step:
      rows.append(row)
  return rows
