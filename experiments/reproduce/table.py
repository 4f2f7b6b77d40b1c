"""Writes the table and the picture of README.md: `python -m experiments.reproduce.table`."""

import pathlib
import statistics

import numpy as np
from matplotlib.figure import Figure

from experiments.reproduce.rows import ROWS, SOURCES, Published, Row, lines_of
from experiments.results import percent, read, write_between

HERE = pathlib.Path(__file__).parent
HEADER = (
  'row',
  'task',
  'published',
  'ours',
  'n',
  'parameters',
  'recipe',
  'time of a run',
  'config',
)
RED, BLUE = '#b2182b', '#2166ac'


def table(results: list[dict]) -> str:
  """Returns the table in Markdown, with the sources below it."""
  rows = [f'| {" | ".join(HEADER)} |', '|---' * len(HEADER) + '|']
  for name, row in ROWS.items():
    lines = lines_of(row, results)
    assert all(line['parameters'] == row.parameters for line in lines), name
    ours = percent((line['accuracy'] for line in lines), digits=2) if lines else 'not run'
    published = '; '.join(map(_published, row.published)) or 'nothing: the task is ours'
    cells = (
      f'`{name}`',
      row.task,
      published,
      ours,
      _count(row, lines),
      f'{row.parameters:,}',
      row.recipe,
      _minutes(lines),
      _config(row),
    )
    rows.append(f'| {" | ".join(cells)} |')
  sources = '\n'.join(f'- {name}: {where}' for name, where in SOURCES.items())
  return '\n'.join(rows) + f'\n\n{sources}'


def _published(figure: Published) -> str:
  """Returns accuracy, source, and parameters where theirs differ from ours."""
  sizes = f', {figure.parameters:,} parameters' if figure.parameters else ''
  if figure.other_network:
    return f'record to beat, not SCS: {figure.other_network}{sizes}, {100 * figure.accuracy:g} %'
  return f'{100 * figure.accuracy:g} % ({figure.source}{sizes})'


def _count(row: Row, lines: list[dict]) -> str:
  """Returns how many seeds were run, of how many."""
  if len(lines) == row.seeds:
    return 'one run' if row.seeds == 1 else f'{row.seeds}'
  return f'{len(lines)} of {row.seeds}' + (', running' if lines else '')


def _config(row: Row) -> str:
  """Returns the config file with its argument, and the row's changes."""
  changes = (f'`{key}={value}`' for key, value in row.changes.items())
  return ', '.join([f'`{row.config}`', *changes])


def _minutes(lines: list[dict]) -> str:
  """Returns the median time of a run, separately for CPUs and GPUs."""
  seconds: dict[str, list[float]] = {' on a GPU': [], '': []}
  for line in lines:
    seconds[' on a GPU' if 'NVIDIA' in line['machine'] else ''].append(line['training_seconds'])
  medians = {where: statistics.median(times) for where, times in seconds.items() if times}
  return ', '.join(f'{median / 60:.0f} min{where}' for where, median in medians.items())


def draw(results: list[dict], path: pathlib.Path) -> None:
  """Draws accuracy against parameters, published beside ours, one panel for each data set."""
  sets = {'mnist': 'MNIST', 'fashion': 'Fashion-MNIST', 'cifar10': 'CIFAR-10'}
  figure = Figure(figsize=(11, 3.6), layout='constrained')
  panels = figure.subplots(1, 3)
  for axes, (prefix, title) in zip(panels, sets.items(), strict=True):
    for name, row in ROWS.items():
      if name.startswith(prefix):
        _draw_row(axes, row, [100 * line['accuracy'] for line in lines_of(row, results)])
    if prefix == 'mnist':  # a logarithmic scale of the errors spreads the points near 99 %
      errors = lambda y: -np.log10(np.maximum(100 - y, 1e-3))
      axes.set_yscale('function', functions=(errors, lambda z: 100 - 10.0**-z))
      axes.set_yticks([92, 95, 97, 98, 99, 99.3])
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter('{x:,.0f}')
    axes.xaxis.set_minor_formatter('')
    axes.set_xticks(_apart({r.parameters for n, r in ROWS.items() if n.startswith(prefix)}))
    axes.tick_params(axis='x', labelrotation=60)
    axes.set_title(title)
    axes.set_xlabel('parameters')
    axes.set_ylabel('test accuracy, %')
  panels[0].plot([], [], 'o', mfc='white', color=RED, label='published SCS')
  panels[0].plot([], [], 's', mfc='white', color=RED, label='record to beat, not SCS')
  panels[0].plot([], [], 'o', color=BLUE, label='ours, mean; small: each seed')
  panels[0].legend(frameon=False, loc='lower right', fontsize=8)
  figure.savefig(path, dpi=120)


def _draw_row(axes, row: Row, ours: list[float]) -> None:
  """Draws the published figures of a row, ours, and a line between them."""
  for published in row.published:
    theirs = published.parameters or row.parameters
    marker = 's' if published.other_network else 'o'
    axes.plot(theirs, 100 * published.accuracy, marker, mfc='white', color=RED)
    if ours:
      ends = [100 * published.accuracy, statistics.mean(ours)]
      axes.plot([theirs, row.parameters], ends, color='#cccccc', linewidth=1, zorder=1)
  if ours:
    axes.plot(row.parameters, statistics.mean(ours), 'o', color=BLUE)
    axes.plot([row.parameters] * len(ours), ours, '.', color=BLUE, alpha=0.4)


def _apart(sizes: set[int]) -> list[int]:
  """Returns the sizes whose labels do not overlap that of the next larger one."""
  kept, room = [], (min(sizes) / max(sizes)) ** (1 / 14)
  for size in sorted(sizes, reverse=True):
    if not kept or size < room * kept[-1]:
      kept.append(size)
  return kept


if __name__ == '__main__':
  results = read(HERE / 'results.jsonl')
  write_between(HERE / 'README.md', 'results', table(results))
  draw(results, HERE / 'parameters.png')
