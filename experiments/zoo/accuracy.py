"""Trains an architecture of configs/cifar10.py; run the same command again to resume.

python -m experiments.zoo.accuracy --network=resnet20 --workdir=DIR
python -m experiments.zoo.accuracy --network=resnet20,variant=conv --seeds=0-2 --workdir=DIR
python -m experiments.zoo.accuracy --network=cct2 --change=model.attend=False --workdir=DIR
"""

import dataclasses
import functools
import pathlib
from typing import Any

from absl import flags as absl_flags

from experiments import flags
from experiments.results import Trial, add_missing, results_file, run
from scs_jax import train
from scs_jax.errors import ArgumentError

NETWORK = absl_flags.DEFINE_string('network', None, 'Argument of the config.', required=True)
CHANGES = flags.changes()
SEEDS = flags.seeds('0')
WORKDIR = flags.workdir()
RESULTS = flags.results()


def outcome(trial: Trial, folder: pathlib.Path) -> dict[str, Any]:
  """Trains a trial; returns its result, and that of the last parameters beside their average.

  In a run of few steps the average still contains much of the first weights.
  """
  result = run(trial, folder)
  last = train.evaluate_checkpoint(trial.load(), str(folder), averaged=False)
  return {**result, 'last_parameters': {key: last[f'val/{key}'] for key in ('accuracy', 'loss')}}


def main(_: list[str]) -> None:
  """Adds a line for each seed that has none."""
  results = results_file(RESULTS.value, WORKDIR.value, 'accuracy.jsonl')
  changes = [f'{key}={value}' for key, value in CHANGES.value.items()]
  for seed in SEEDS.value:
    trial = Trial(f'configs/cifar10.py:{NETWORK.value}', seed, CHANGES.value)
    if (objective := trial.load().objective) != 'classification':
      raise ArgumentError(f'--network={NETWORK.value} has no accuracy: it learns {objective}')
    folder = pathlib.Path(WORKDIR.value, ','.join((NETWORK.value, *changes)), f'{seed}')
    add_missing(results, dataclasses.asdict(trial), functools.partial(outcome, trial, folder))


if __name__ == '__main__':
  flags.run(main)
