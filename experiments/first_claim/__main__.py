"""Trains configs/mnist.py with several seeds; run the same command again to resume.

python -m experiments.first_claim --workdir=DIR

Adds a line for each seed, and copies the pictures of the first seed beside the results.
"""

import dataclasses
import functools
import pathlib
import shutil
import statistics

from experiments import flags
from experiments.results import Trial, add_missing, read, results_file, run, with_key

CONFIG = 'configs/mnist.py'
SEEDS = flags.seeds('0-2')
WORKDIR = flags.workdir()
RESULTS = flags.results()


def main(_: list[str]) -> None:
  """Trains, and prints accuracies, median and mean."""
  results = results_file(RESULTS.value, WORKDIR.value)
  folders = {seed: pathlib.Path(WORKDIR.value, f'seed_{seed}') for seed in SEEDS.value}
  for seed, folder in folders.items():
    trial = Trial(CONFIG, seed)
    add_missing(results, dataclasses.asdict(trial), functools.partial(run, trial, folder))
  lines = with_key(read(results), {'config': CONFIG, 'changes': {}})
  accuracies = [line['accuracy'] for line in lines if line['seed'] in folders]
  print(', '.join(f'{accuracy:.4f}' for accuracy in accuracies))
  print(f'median {statistics.median(accuracies):.4f}, mean {statistics.mean(accuracies):.4f}')
  pictures = next(iter(folders.values())) / 'pictures'
  if pictures.exists():  # no run if the results have the seed already
    for name in ('kernels.png', 'feature_maps.png'):
      shutil.copy(pictures / name, results.parent / name)


if __name__ == '__main__':
  flags.run(main)
