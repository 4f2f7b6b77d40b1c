"""Rewrites the tables of README.md: python -m experiments.invariance.table."""

import pathlib

from experiments.results import percent, read, with_key, write_between

HERE = pathlib.Path(__file__).parent
DATA_SETS = ('quickstart', 'mnist', 'fashion_mnist', 'cifar10')
VARIANTS = {  # of configs/invariant.py; 'relu' is that of config.py
  'scs': 'SCS',
  'scs_abs': 'SCS, magnitude',
  'contrast': 'q = 0 first',
  'contrast_abs': 'q = 0 first, magnitude',
  'offset': 'and centred',
  'offset_abs': 'and centred, magnitude',
  'conv': 'conv + BatchNorm + ReLU',
  'relu': 'conv + ReLU',
}
# Chosen on the last tenth of the training set, seed 0, by `--tune`.
LEARNING_RATES = {data: dict.fromkeys(VARIANTS, 0.03) for data in DATA_SETS}


def main() -> None:
  lines = read(HERE / 'results.jsonl')
  for data in {line['data']: None for line in lines}:
    write_between(HERE / 'README.md', data, of(lines, data))


def of(lines: list[dict], data: str) -> str:
  """Returns the table of a data set in Markdown: rows are lights, columns are variants."""
  runs = {name: _runs(lines, data, name) for name in VARIANTS}
  runs = {name: found for name, found in runs.items() if found}
  rows = [
    f'| light | {" | ".join(VARIANTS[name] for name in runs)} |',
    f'|---|{"---|" * len(runs)}',
    f'| seeds | {" | ".join(str(len(found)) for found in runs.values())} |',
  ]
  for light in next(iter(runs.values()))[0]['light']:
    cells = (percent(line['light'][light] for line in found) for found in runs.values())
    rows.append(f'| {light} | {" | ".join(cells)} |')
  return '\n'.join(rows)


def _runs(lines: list[dict], data: str, variant: str) -> list[dict]:
  """Returns the runs of a variant at the learning rate that was chosen for it."""
  rate = {'optimizer.schedule.peak_learning_rate': LEARNING_RATES[data][variant]}
  key = {'data': data, 'variant': variant, 'changes': rate}
  return [line for line in with_key(lines, key) if 'light' in line]


if __name__ == '__main__':
  main()
