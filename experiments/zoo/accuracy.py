"""Trains an architecture of configs/cifar10.py as its config says; the same command goes on.

python experiments/zoo/accuracy.py --network=resnet20 --workdir=DIR
python experiments/zoo/accuracy.py --network=resnet20,variant=conv --seeds=3 --workdir=DIR
"""

import dataclasses
import functools
import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from trials import Trial, add_missing, run  # noqa: E402

NETWORK = flags.DEFINE_string('network', None, 'The argument of the config.', required=True)
EPOCHS = flags.DEFINE_float('epochs', None, 'Another length than that of the config.')
SEEDS = flags.DEFINE_integer('seeds', 1, 'Seeds 0 … n - 1.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)
RESULTS = flags.DEFINE_string('results', str(HERE / 'accuracy.jsonl'), 'Gets a line for each run.')


def main(_):
  results = pathlib.Path(RESULTS.value)
  changes = {} if EPOCHS.value is None else {'total_epochs': EPOCHS.value}
  for seed in range(SEEDS.value):
    trial = Trial(f'configs/cifar10.py:{NETWORK.value}', seed, changes)
    folder = pathlib.Path(WORKDIR.value, NETWORK.value, f'{seed}')
    add_missing(results, dataclasses.asdict(trial), functools.partial(run, trial, folder))


if __name__ == '__main__':
  app.run(main)
