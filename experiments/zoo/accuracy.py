"""Trains an architecture of configs/cifar10.py as its config says; the same command goes on.

python experiments/zoo/accuracy.py --network=resnet20 --workdir=DIR
python experiments/zoo/accuracy.py --network=resnet20,variant=conv --seeds=3 --workdir=DIR
python experiments/zoo/accuracy.py --network=cct2 --change=model.attend=False --workdir=DIR
"""

import dataclasses
import functools
import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from results import Trial, add_missing, parse_change, results_file, run  # noqa: E402

NETWORK = flags.DEFINE_string('network', None, 'The argument of the config.', required=True)
CHANGE = flags.DEFINE_multi_string(
  'change', [], 'KEY=VALUE: a key of the config and a Python literal; may be given several times.'
)
SEEDS = flags.DEFINE_integer('seeds', 1, 'Seeds 0 … n - 1.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)
RESULTS = flags.DEFINE_string(
  'results', None, 'Gets a line for each run; if not given, accuracy.jsonl in --workdir does.'
)


def main(_):
  results = results_file(RESULTS.value, WORKDIR.value, 'accuracy.jsonl')
  changes = dict(map(parse_change, CHANGE.value))
  for seed in range(SEEDS.value):
    trial = Trial(f'configs/cifar10.py:{NETWORK.value}', seed, changes)
    if (objective := trial.load().objective) != 'classification':
      raise app.UsageError(f'--network={NETWORK.value} has no accuracy: it learns {objective}')
    folder = pathlib.Path(WORKDIR.value, ','.join((NETWORK.value, *CHANGE.value)), f'{seed}')
    add_missing(results, dataclasses.asdict(trial), functools.partial(outcome, trial, folder))


def outcome(trial: Trial, folder: pathlib.Path) -> dict:
  """Trains; returns the result, with that of the last parameters beside that of their average.

  In a run of few steps the average still holds much of the first weights.
  """
  result = run(trial, folder)

  from scs_jax import train

  last = train.evaluate_checkpoint(trial.load(), str(folder), averaged=False)
  return {
    **result,
    'last_parameters': {key: last[f'val/{key}'] for key in ('accuracy', 'loss')},
  }


if __name__ == '__main__':
  app.run(main)
