"""Writes the table of README.md: `python -m experiments.parametrisation.table`."""

import pathlib
import statistics

from experiments.results import read, write_between

HERE = pathlib.Path(__file__).parent


def table(lines: list[dict]) -> str:
  """Returns the accuracy with each map, in Markdown."""
  rows = ['| map | mean accuracy | each seed |', '|---|---|---|']
  for name in dict.fromkeys(line['map'] for line in lines):
    accuracies = [line['accuracy'] for line in lines if line['map'] == name]
    finite = [accuracy for accuracy in accuracies if accuracy is not None]
    mean = f'{100 * statistics.mean(finite):.2f} %' if finite else ''
    each = ', '.join('diverged' if x is None else f'{100 * x:.1f}' for x in accuracies)
    rows.append(f'| {name} | {mean} | {each} |')
  return '\n'.join(rows)


if __name__ == '__main__':
  write_between(HERE / 'README.md', 'maps', table(read(HERE / 'results.jsonl')))
