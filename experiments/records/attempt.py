"""Trains one network of your choice on the validation split and logs it.

python -m experiments.records.attempt --name=c1 --config=configs/records.py:cifar10_80 \\
  --stack='s40x5/2 a d p48 a P2 d p64 a P2 d p80 a P4 h' --change=total_epochs=8.0 --workdir=DIR

`notation.py` explains the notation. Without --stack the network is that of the config. The last
5,000 training images are held out.
"""

import dataclasses
import functools
import pathlib

from absl import flags as absl_flags

from experiments import flags
from experiments.records.held_out import outcome, splits
from experiments.records.notation import parse
from experiments.results import Trial, add_missing, results_file
from scs_jax.errors import ArgumentError

NAME = absl_flags.DEFINE_string('name', None, 'Names the line and the folder.', required=True)
CONFIG = absl_flags.DEFINE_string('config', None, 'Config file with its argument.', required=True)
STACK = absl_flags.DEFINE_string('stack', None, 'The network, in the notation of notation.py.')
CHANGES = flags.changes()
SEED = absl_flags.DEFINE_integer('seed', 0, 'Seed of the run.')
WORKDIR = flags.workdir()
RESULTS = flags.results()


def trial() -> Trial:
  """Returns the trial that the flags describe.

  Raises:
    ArgumentError: --change has a key that this command sets.
  """
  held_out = splits(Trial(CONFIG.value, SEED.value).load().data.name)
  changes = dict(CHANGES.value)
  for key in changes:
    if key in ('seed', *held_out):
      raise ArgumentError(f'--change={key}=…: use --seed; the splits are those of held_out.py')
  if STACK.value:
    changes['model.stack'] = parse(STACK.value)
  return Trial(CONFIG.value, SEED.value, {**held_out, **changes})


def main(_: list[str]) -> None:
  """Adds a line for the trial unless there is one."""
  asked = trial()
  folder = pathlib.Path(WORKDIR.value, NAME.value)
  task = asked.load().data.name
  key = {'task': task, 'trial': NAME.value, **dataclasses.asdict(asked)}
  results = results_file(RESULTS.value, WORKDIR.value, 'trials.jsonl')
  add_missing(results, key, functools.partial(outcome, asked, folder))


if __name__ == '__main__':
  flags.run(main)
