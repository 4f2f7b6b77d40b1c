"""Writes the tables and the picture of this folder: `python -m experiments.records.table`.

README.md gets the records, from the results of experiments/reproduce (all test images).
search_history.md gets every trial of trials.jsonl (validation split).
"""

import itertools
import pathlib
import statistics
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.reproduce.rows import ROWS, lines_of
from experiments.results import ROOT, read, write_between

HERE = pathlib.Path(__file__).parent
SEEDS = 5  # that a record needs
RED, BLUE = '#b2182b', '#2166ac'


class Record(NamedTuple):
  """A record of the leaderboard.

  Attributes:
    prefix: of the names of our rows.
    data: name of the data set.
    bar: the accuracy that must be reached.
    parameters: of the record.
    holder: the network that holds it.
    goal: ours must have fewer parameters.
  """

  prefix: str
  data: str
  bar: float
  parameters: int
  holder: str
  goal: int


RECORDS = (
  Record('mnist', 'MNIST', 0.99, 910, 'a Hough-voting ConvNet, not SCS', 900),
  Record('fashion', 'Fashion-MNIST', 0.9, 1_890, 'a Hough-voting ConvNet, not SCS', 1_850),
  Record('cifar10', 'CIFAR-10', 0.8, 24_974, 'an SCS network', 20_000),
  Record('cifar10', 'CIFAR-10', 0.9, 103_000, 'ConvMixer-128/4 with 91.26 %, not SCS', 100_000),
)


class Ours(NamedTuple):
  """A row of experiments/reproduce; the order is that of the smaller and then the better."""

  parameters: int
  mirrored: bool
  minus_median: float
  seeds: int


def records(results: list[dict]) -> str:
  """Returns the table of records.

  It has our smallest network whose median over all seeds is at the bar, and our best one below the
  goal. The latter is evaluated on each image alone, without the mirror image (`Row.measure`).
  """
  rows = [
    '| task | record to beat | goal | our smallest at the bar | our best below the goal |',
    '|---|---|---|---|---|',
  ]
  for record in RECORDS:
    ours = []
    for name, row in ROWS.items():
      lines = lines_of(row, results)
      if name.startswith(record.prefix) and lines:
        median = statistics.median(line['accuracy'] for line in lines)
        ours.append(Ours(row.parameters, row.measure != 'accuracy', -median, len(lines)))
    passed = (x for x in ours if -x.minus_median >= record.bar and x.seeds >= SEEDS)
    below = (x for x in ours if x.parameters < record.goal and not x.mirrored)
    best = min(below, key=lambda x: x.minus_median, default=None)
    rows.append(
      f'| {record.data} {record.bar:.0%} | {record.parameters:,} ({record.holder}) '
      f'| < {record.goal:,} | {_cell(min(passed, default=None))} | {_cell(best)} |'
    )
  return '\n'.join(rows)


def _cell(found: Ours | None) -> str:
  if found is None:
    return 'none'
  count = f'{found.seeds}' if found.seeds >= SEEDS else f'{found.seeds} of {SEEDS}'
  seen = 'one run' if found.seeds == 1 else f'median, n = {count}'
  seen += ', with the mirror image' if found.mirrored else ''
  return f'{found.parameters:,} parameters, {-found.minus_median:.2%} ({seen})'


def trials(lines: list[dict]) -> str:
  """Returns the table of trials, by data set and accuracy."""
  rows = [
    '| task | trial | network | parameters | epochs | recipe | validation accuracy |',
    '|---|---|---|---|---|---|---|',
  ]
  for line in sorted(lines, key=lambda line: (line['task'], -line['accuracy'])):
    rows.append(
      f'| {line["task"]} | {line["trial"]} | `{line["network"]}` | {line["parameters"]:,} '
      f'| {line["epochs"]:g} | {line["recipe"]} | {line["accuracy"]:.2%} |'
    )
  return '\n'.join(rows)


def draw(lines: list[dict], path: pathlib.Path) -> None:
  """Draws every trial by its parameters, and the best with at most as many."""
  sets = {  # most parameters, accuracies in percent
    'mnist': (1500, (96, 99.25)),
    'fashion_mnist': (8000, (87, 91)),
    'cifar10': (110_000, (60, 91)),
  }
  figure = Figure(figsize=(11, 3.6), layout='constrained')
  panels = figure.subplots(1, len(sets))
  for axes, (task, (largest, shown)) in zip(panels, sets.items(), strict=True):
    points = sorted(
      (line['parameters'], line['accuracy'])
      for line in lines
      if line['task'] == task and line['parameters'] <= largest
    )
    sizes, accuracies = zip(*points, strict=True)
    percents = [100 * x for x in accuracies]
    best = list(itertools.accumulate(percents, max))
    axes.plot(sizes, percents, '.', color=BLUE, alpha=0.5, label='a trial')
    axes.step(sizes, best, where='post', color=BLUE, label='best of that size or less')
    held = [record for record in RECORDS if task.startswith(record.prefix)]
    bars = [100 * record.bar for record in held]
    parameters = [record.parameters for record in held]
    axes.plot(
      parameters, bars, 'o', mfc='white', color=RED, label='record and its bar (test images)'
    )
    axes.set(title=held[0].data, xlabel='parameters', ylim=shown)
    axes.locator_params(axis='x', nbins=5)
  panels[0].set_ylabel('validation accuracy, %')
  panels[0].legend(frameon=False, loc='lower right', fontsize=8)
  figure.savefig(path, dpi=120)


if __name__ == '__main__':
  reproduced = ROOT / 'experiments' / 'reproduce' / 'results.jsonl'
  write_between(HERE / 'README.md', 'records', records(read(reproduced)))
  logged = read(HERE / 'trials.jsonl')
  write_between(HERE / 'search_history.md', 'trials', trials(logged))
  draw(logged, HERE / 'trials.png')
