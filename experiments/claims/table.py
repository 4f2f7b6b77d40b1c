"""Writes tables and pictures of README.md from the results: python experiments/claims/table.py.

Each variant is compared with its base on the same seeds: the mean of the differences and its 95 %
confidence interval, by Student's t.
"""

import math
import pathlib
import statistics
import sys

from scipy import stats

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import robustness  # noqa: E402
from results import read, with_key, write_between  # noqa: E402
from variants import SETS, changes, comparisons  # noqa: E402

HEADER = """\
| variant | accuracy | n | difference to its base | 95 % interval |
|---|---|---|---|---|"""


def accuracies(results: list[dict], data: str, name: str, flat: dict) -> dict[int, float | None]:
  """Returns the accuracy for each seed, None where the run diverged."""
  key = {'data': data, 'variant': name, 'changes': flat}
  return {line['seed']: line['accuracy'] for line in with_key(results, key)}


def interval(differences: list[float]) -> tuple[float, float]:
  """Returns the mean and half the width of its 95 % confidence interval."""
  n = len(differences)
  if n < 2:
    return statistics.mean(differences), math.nan
  half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
  return statistics.mean(differences), half


def table(results: list[dict], data: str) -> str:
  """Returns the table of a data set in Markdown."""
  rows, base_runs = [HEADER], {}
  for name, (base, change) in comparisons(data).items():
    runs = accuracies(results, data, name, changes(data, base, change))
    if not change:
      base_runs[base] = runs
    name = name.replace('|', r'\|')  # a cell would end there
    good = {seed: value for seed, value in runs.items() if value is not None}
    if not good:
      rows.append(f'| {name} | {"diverged" if runs else "not run"} | {len(runs)} | | |')
      continue
    mean = f'{100 * statistics.mean(good.values()):.2f} %'
    if len(good) < len(runs):
      mean += f' ({len(runs) - len(good)} diverged)'
    shared = [seed for seed in good if base_runs[base].get(seed) is not None]
    if not change:
      rows.append(f'| **{name}** | {mean} | {len(runs)} | | |')
      continue
    if not shared:
      rows.append(f'| {name} | {mean} | {len(runs)} | its base was not run | |')
      continue
    difference, half = interval([100 * (good[seed] - base_runs[base][seed]) for seed in shared])
    n = f'{len(runs)}' + (f' ({len(shared)} pairs)' if len(shared) < len(runs) else '')
    within = '' if math.isnan(half) else f'{difference - half:+.2f} … {difference + half:+.2f}'
    rows.append(f'| {name} | {mean} | {n} | {difference:+.2f} | {within} |')
  return '\n'.join(rows)


if __name__ == '__main__':
  results = read(HERE / 'results.jsonl')
  for data in SETS:
    write_between(HERE / 'README.md', data, table(results, data))
  stored = read(HERE / 'robustness.jsonl')
  for data, against in {(line['data'], line['against']): None for line in stored}:
    lines = with_key(stored, {'data': data, 'against': against})
    mark = f'robustness of {data} against {against}'
    write_between(HERE / 'README.md', mark, robustness.table(lines))
    robustness.draw(lines)
