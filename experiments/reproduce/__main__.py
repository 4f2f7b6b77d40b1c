"""Trains the network of a row with its seeds; run the same command again to resume.

python -m experiments.reproduce --row=mnist_smoke --workdir=DIR
python -m experiments.reproduce --row=mnist_smoke --workdir=DIR --seeds=0-2
"""

import dataclasses
import functools
import pathlib
from typing import Any

from absl import flags as absl_flags

import scs_jax
from experiments import flags
from experiments.reproduce import mirrored, on_device
from experiments.reproduce.rows import ROWS
from experiments.results import Trial, add_missing, results_file, run
from scs_jax.train import Experiment

ROW = absl_flags.DEFINE_enum('row', None, list(ROWS), 'Row of the table.', required=True)
SEEDS = flags.seeds(None)  # None: all seeds of the row
WORKDIR = flags.workdir()
ON_DEVICE = absl_flags.DEFINE_boolean(
  'on_device', False, 'Trains all steps as one program, for a GPU (on_device.py).'
)
RESULTS = flags.results()


def answer(row: str, trial: Trial, folder: pathlib.Path) -> dict[str, Any]:
  """Trains a trial and returns its result.

  A network that was trained with flips is also evaluated together with the mirror image.

  Args:
    row: the row that asks first.
    trial: what to train.
    folder: the run's workdir.
  """
  train = on_device.run if ON_DEVICE.value else run
  result = {'row': row, **train(trial, folder)}
  config = trial.load()
  if config.augment.flip:
    examples = Experiment(config).eval_set
    result['mirrored_accuracy'] = mirrored.accuracy(scs_jax.load(folder), examples)
  return result


def main(_: list[str]) -> None:
  """Adds a line of results for each seed that has none."""
  results = results_file(RESULTS.value, WORKDIR.value)
  name, row = ROW.value, ROWS[ROW.value]
  for seed in range(row.seeds) if SEEDS.value is None else SEEDS.value:
    trial = Trial(row.config, seed, row.changes)
    folder = pathlib.Path(WORKDIR.value, name, f'{seed}')
    # The row is not part of the key, because one run may answer several rows.
    add_missing(results, dataclasses.asdict(trial), functools.partial(answer, name, trial, folder))


if __name__ == '__main__':
  flags.run(main)
