"""Rewrites the table of README.md: python -m experiments.explain.table."""

import pathlib
import statistics

from experiments.results import percent, read, write_between

HERE = pathlib.Path(__file__).parent
NETWORKS = {'scs': 'SCS', 'conv': 'conv + BatchNorm + ReLU'}
MEASURES = ('grid 2', 'grid 3', 'deletion', 'insertion', 'sum')


def main() -> None:
  write_between(HERE / 'README.md', 'results', of(read(HERE / 'results.jsonl')))


def of(lines: list[dict]) -> str:
  """Returns the table in Markdown: a row for each data set, network and method."""
  rows = [
    '| data (seeds) | network, accuracy | method | 2×2 | 3×3 | deletion | insertion | sum/logit |',
    '|---|---|---|---|---|---|---|---|',
  ]
  lines = [line for line in lines if 'methods' in line]
  for data, variant in dict.fromkeys((line['data'], line['variant']) for line in lines):
    runs = [line for line in lines if (line['data'], line['variant']) == (data, variant)]
    network = f'{NETWORKS[variant]}, {percent(run["accuracy"] for run in runs)}'
    for method, example in runs[0]['methods'].items():
      cells = [
        f'{statistics.mean(run["methods"][method][name] for run in runs):.3f}'
        if name in example
        else ''
        for name in MEASURES
      ]
      rows.append(f'| {data} ({len(runs)}) | {network} | {method} | {" | ".join(cells)} |')
  return '\n'.join(rows)


if __name__ == '__main__':
  main()
