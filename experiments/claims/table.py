"""Rewrites tables and pictures of README.md, robustness.md and exponents.md.

python -m experiments.claims.table

Each variant is compared with its base on the same seeds: the mean of the differences and its 95 %
confidence interval, by Student's t.
"""

import math
import pathlib
import re
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.claims.attacks import CHECKED
from experiments.claims.variants import SETS, changes, comparisons
from experiments.results import percent, read, with_key, write_between

HERE = pathlib.Path(__file__).parent
HEADER = """\
| variant | accuracy | n | difference to its base | 95 % interval |
|---|---|---|---|---|"""

Lines = Sequence[dict]  # of a results file


def main() -> None:
  claims = read(HERE / 'results.jsonl')
  for data in SETS:
    write_between(HERE / 'README.md', data, of_claims(claims, data))
  attacked = read(HERE / 'robustness.jsonl')
  for data, against in {(line['data'], line['against']): None for line in attacked}:
    lines = with_key(attacked, {'data': data, 'against': against})
    mark = f'robustness of {data} against {against}'
    write_between(HERE / 'robustness.md', mark, of_robustness(lines))
    other = re.sub(r'\W+', '_', against)
    draw_robustness(lines, HERE / f'robustness_{data}_{other}.png')
  courses = read(HERE / 'exponents.jsonl')
  for data in {line['data']: None for line in courses}:
    lines = with_key(courses, {'data': data})
    write_between(HERE / 'exponents.md', f'exponents of {data}', of_exponents(lines))
    draw_exponents(lines, HERE / f'exponents_{data}.png')


# ---------------------------------------------------------------------------------------- Claims


def accuracies(results: Lines, data: str, name: str, flat: dict) -> dict[int, float | None]:
  """Returns the accuracy by seed; None where the run diverged."""
  key = {'data': data, 'variant': name, 'changes': flat}
  return {line['seed']: line['accuracy'] for line in with_key(results, key)}


def interval(differences: Sequence[float]) -> tuple[float, float]:
  """Returns the mean and half the width of its 95 % confidence interval, NaN for one value."""
  n = len(differences)
  if n < 2:
    return statistics.mean(differences), math.nan
  half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
  return statistics.mean(differences), float(half)


def of_claims(results: Lines, data: str) -> str:
  """Returns the table of a data set in Markdown."""
  rows, base_runs = [HEADER], {}
  for name, (base, change) in comparisons(data).items():
    runs = accuracies(results, data, name, changes(data, base, change))
    if not change:
      base_runs[base] = runs
    name = name.replace('|', r'\|')  # a bare one would end the cell
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


# ------------------------------------------------------------------------------------ Robustness


def of_robustness(lines: Lines) -> str:
  """Returns the table in Markdown of one pair of networks, from one line for each seed."""
  data, pair = lines[0]['data'], ('SCS', lines[0]['against'])
  shares = [line['shares'] for line in lines]
  rows = (
    f'| {row} | {" | ".join(percent(s[row][name] for s in shares) for name in pair)} |'
    for row in shares[0]
  )
  return '\n'.join([f'| {data}, n = {len(lines)} | {" | ".join(pair)} |', '|---|---|---|', *rows])


def draw_robustness(lines: Lines, path: pathlib.Path) -> None:
  """Draws how the loss grows along an attack. A plateau from the start would be suspicious.

  It would mean that the gradients are hidden.
  """
  figure = Figure(figsize=(5, 3.8), layout='constrained')
  axes = figure.subplots()
  for i, name in enumerate(('SCS', lines[0]['against'])):
    for n, line in enumerate(lines):
      axes.plot(line['loss curves'][name], color=f'C{i}', label=None if n else name)
  axes.set(xlabel='steps of PGD', ylabel='mean loss', title=f'ℓ∞ {round(255 * CHECKED)}/255')
  figure.legend(loc='outside upper center', ncols=2, frameon=False)
  figure.savefig(path, dpi=150)


# ------------------------------------------------------------------------------------- Exponents


def of_exponents(lines: Lines) -> str:
  """Returns the table in Markdown of one data set, from one line for each initial p."""
  layers = range(len(lines[0]['p'][0]))
  rows = [
    f'| {lines[0]["data"]}: p begins at | accuracy | '
    + ' | '.join(f'layer {i + 1} ends at' for i in layers)
    + ' |',
    '|---|---|' + '---|' * len(layers),
  ]
  for line in lines:
    # Median and range over the kernels of a layer.
    ends = [f'{np.median(p):.2f} ({min(p):.2f} … {max(p):.2f})' for p in line['p'][-1]]
    rows.append(f'| {line["p_init"]} | {line["accuracy"]:.2%} | {" | ".join(ends)} |')
  return '\n'.join(rows)


def draw_exponents(lines: Lines, path: pathlib.Path) -> None:
  """Draws p against the step, a panel for each layer: thin for kernels, thick for their median."""
  layers = len(lines[0]['p'][0])
  figure = Figure(figsize=(2.6 * layers, 2.8), layout='constrained')
  panels = figure.subplots(1, layers, sharey=True)
  for i, axes in enumerate(panels):
    for n, line in enumerate(lines):
      steps = [0, *line['steps']]
      first = [line['p_init']] * len(line['p'][0][i])
      p = np.array([first] + [levels[i] for levels in line['p']])
      axes.plot(steps, p, color=f'C{n}', linewidth=0.4)
      axes.plot(steps, np.median(p, 1), color=f'C{n}', linewidth=2, label=f'from {line["p_init"]}')
    axes.set(title=f'layer {i + 1}', xlabel='steps')
  panels[0].set_ylabel('p')
  handles, labels = panels[-1].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside right center', frameon=False)
  figure.savefig(path, dpi=150)


if __name__ == '__main__':
  main()
