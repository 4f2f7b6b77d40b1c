"""Writes the table of both READMEs and the figure from results.jsonl: python …/reproduce/table.py."""

import pathlib
import statistics
import sys

import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from rows import ROWS, SOURCES, Row, lines_of  # noqa: E402
from results import percent, read, write_between  # noqa: E402

HEADER = ('row', 'claim', 'source', 'published', 'ours', 'n', 'parameters', 'recipe', 'one run')


def table(results: list[dict], *, configs: bool) -> str:
  """Returns the table in Markdown; with `configs`, what each row trains is its last column."""
  head = [*HEADER, *(['config'] if configs else [])]
  rows = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
  for name, row in ROWS.items():
    lines = lines_of(row, results)
    n = f'{len(lines)}' + (f' of {row.seeds}' if len(lines) < row.seeds else '')
    if 0 < len(lines) < row.seeds:
      n += ', running'
    assert all(line['parameters'] == row.parameters for line in lines), name
    sizes = f'{row.parameters:,}' + (f' (theirs {row.theirs:,})' if row.theirs else '')
    ours = percent((line['accuracy'] for line in lines), digits=2) if lines else 'not run'
    rows.append(
      f'| `{name}` | {row.claim} | {row.source} | {100 * row.published:g} % | {ours} | {n} | {sizes} '
      f'| {row.recipe} | {_minutes(lines)} |' + (f' {_config(row)} |' if configs else '')
    )
  return '\n'.join(rows)


def _config(row: Row) -> str:
  """Returns the config file with its argument, and what the row changes in it."""
  changes = (f'`{key}={value}`' for key, value in row.changes.items())
  return ', '.join([f'`{row.config}`', *changes])


def _minutes(lines: list[dict]) -> str:
  """Returns the median time of a run, on CPUs and on GPUs apart."""
  seconds = {' on a GPU': [], '': []}
  for line in lines:
    seconds[' on a GPU' if 'NVIDIA' in line['machine'] else ''].append(line['training_seconds'])
  medians = {where: statistics.median(times) for where, times in seconds.items() if times}
  return ', '.join(f'{median / 60:.0f} min{where}' for where, median in medians.items())


def draw(results: list[dict]) -> None:
  """Writes parameters.png: accuracy against parameters, published beside ours, by data set."""
  sets = {'mnist': 'MNIST', 'fashion': 'Fashion-MNIST', 'cifar10': 'CIFAR-10'}
  figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout='constrained')
  for axes, (prefix, title) in zip(panels, sets.items(), strict=True):
    for name, row in ROWS.items():
      if not name.startswith(prefix):
        continue
      x, ours = row.parameters, [100 * r['accuracy'] for r in lines_of(row, results)]
      theirs = row.theirs or x
      axes.plot(theirs, 100 * row.published, 'o', mfc='white', color='#b2182b')
      if ours:
        mean = statistics.mean(ours)
        axes.plot([theirs, x], [100 * row.published, mean], color='#cccccc', linewidth=1, zorder=1)
        axes.plot(x, mean, 'o', color='#2166ac')
        axes.plot([x] * len(ours), ours, '.', color='#2166ac', alpha=0.4)
    if prefix == 'mnist':  # logarithmic in the errors, or all around 99 % would be one point
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
  panels[0].plot([], [], 'o', mfc='white', color='#b2182b', label='published')
  panels[0].plot([], [], 'o', color='#2166ac', label='ours, mean; small: each seed')
  panels[0].legend(frameon=False, loc='lower right', fontsize=8)
  figure.savefig(HERE / 'parameters.png', dpi=120)


def _apart(sizes: set[int]) -> list[int]:
  """Returns the sizes whose labels have room beside the next larger one's."""
  kept, room = [], (min(sizes) / max(sizes)) ** (1 / 14)
  for size in sorted(sizes, reverse=True):
    if not kept or size < room * kept[-1]:
      kept.append(size)
  return kept


if __name__ == '__main__':
  results = read(HERE / 'results.jsonl')
  sources = '\n'.join(f'- {name}: {where}' for name, where in SOURCES.items())
  here = f'{table(results, configs=True)}\n\n{sources}'
  write_between(HERE / 'README.md', 'results', here)
  write_between(HERE.parent.parent / 'README.md', 'results', table(results, configs=False))
  draw(results)
