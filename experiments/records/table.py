"""Writes the tables and the picture of README.md: python experiments/records/table.py.

The records, from the results of experiments/reproduce (all test images), here and in the README of the
project; and every trial, from trials.jsonl (validation split).
"""

import itertools
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / 'reproduce'), str(HERE.parent), str(HERE.parent.parent)]

from rows import ROWS, lines_of  # noqa: E402
from results import ROOT, read, write_between  # noqa: E402

# Data set, bar, parameters of the record, and those that ours must be below.
RECORDS = (
  ('mnist', 'MNIST', 0.99, 910, 900),
  ('fashion', 'Fashion-MNIST', 0.9, 1_890, 1_850),
  ('cifar10', 'CIFAR-10', 0.8, 24_974, 20_000),
  ('cifar10', 'CIFAR-10', 0.9, 103_000, 100_000),
)
SEEDS = 5  # that a record needs


def records(results: list[dict]) -> str:
  """Returns the table of records: our smallest at the bar with all seeds, our best below the goal.

  The latter sees each image once: the mean with the mirror image (`Row.measure`) only where it says so.
  """
  rows = [
    '| task | record to beat | goal | our smallest at the bar | our best below the goal |',
    '|---|---|---|---|---|',
  ]
  for prefix, task, bar, record, goal in RECORDS:
    ours = []
    for name, row in ROWS.items():
      lines = lines_of(row, results)
      if name.startswith(prefix) and lines:
        median = statistics.median(x['accuracy'] for x in lines)
        ours.append((row.parameters, row.measure != 'accuracy', -median, len(lines)))
    passed = min((x for x in ours if -x[2] >= bar and x[3] >= SEEDS), default=None)
    below = min((x for x in ours if x[0] < goal and not x[1]), key=lambda x: x[2], default=None)
    rows.append(
      f'| {task} {bar:.0%} | {record:,} | < {goal:,} | {_cell(passed)} | {_cell(below)} |'
    )
  return '\n'.join(rows)


def _cell(found: tuple[int, bool, float, int] | None) -> str:
  if found is None:
    return 'none'
  parameters, with_mirror, minus_accuracy, n = found
  count = f'{n}' if n >= SEEDS else f'{n} of {SEEDS}'
  seen = ', with the mirror image' if with_mirror else ''
  return f'{parameters:,} parameters, {-minus_accuracy:.2%} (median, n = {count}{seen})'


def trials() -> str:
  """Returns the table of trials, by data set and accuracy."""
  rows = [
    '| task | trial | network | parameters | epochs | recipe | validation accuracy |',
    '|---|---|---|---|---|---|---|',
  ]
  for line in sorted(
    read(HERE / 'trials.jsonl'), key=lambda line: (line['task'], -line['accuracy'])
  ):
    rows.append(
      f'| {line["task"]} | {line["trial"]} | `{line["network"]}` | {line["parameters"]:,} '
      f'| {line["epochs"]:g} | {line["recipe"]} | {line["accuracy"]:.2%} |'
    )
  return '\n'.join(rows)


def draw() -> None:
  """Writes trials.png: every trial by its parameters, and the best with at most as many."""
  sets = {  # most parameters, accuracies in percent
    'mnist': (1500, (96, 99.25)),
    'fashion_mnist': (8000, (87, 91)),
    'cifar10': (110_000, (60, 91)),
  }
  figure, panels = plt.subplots(1, len(sets), figsize=(11, 3.6), layout='constrained')
  for axes, (task, (largest, shown)) in zip(panels, sets.items(), strict=True):
    points = sorted(
      (line['parameters'], line['accuracy'])
      for line in read(HERE / 'trials.jsonl')
      if line['task'] == task and line['parameters'] <= largest
    )
    sizes, accuracies = zip(*points, strict=True)
    best = list(itertools.accumulate(accuracies, max))
    axes.plot(
      sizes, [100 * x for x in accuracies], '.', color='#2166ac', alpha=0.5, label='a trial'
    )
    axes.step(
      sizes,
      [100 * x for x in best],
      where='post',
      color='#2166ac',
      label='best of that size or less',
    )
    names, bars, held = zip(*(r[1:4] for r in RECORDS if task.startswith(r[0])), strict=True)
    axes.plot(
      held,
      [100 * x for x in bars],
      'o',
      mfc='white',
      color='#b2182b',
      label='record (test images)',
    )
    axes.set(title=names[0], xlabel='parameters', ylim=shown)
    axes.locator_params(axis='x', nbins=5)
  panels[0].set_ylabel('validation accuracy, %')
  panels[0].legend(frameon=False, loc='lower right', fontsize=8)
  figure.savefig(HERE / 'trials.png', dpi=120)


if __name__ == '__main__':
  text = records(read(HERE.parent / 'reproduce' / 'results.jsonl'))
  for folder in (HERE, ROOT):
    write_between(folder / 'README.md', 'records', text)
  write_between(HERE / 'README.md', 'trials', trials())
  draw()
