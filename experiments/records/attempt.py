"""Trains one network on a validation split and logs it: what was tried by hand, beside search.py.

python experiments/records/attempt.py --name=c1 --config=configs/records.py:cifar10_80 --workdir=DIR \\
  --stack='s40x5/2 a d p48 a P2 d p64 a P2 d p80 a P4 h' --change=total_epochs=8.0

The notation is that of notation.py. Without --stack the network is the config's. The last 5,000 training
images are held out.
"""

import dataclasses
import functools
import operator
import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from held_out import outcome, splits  # noqa: E402
from notation import parse  # noqa: E402
from results import Trial, add_missing, parse_change, results_file  # noqa: E402

NAME = flags.DEFINE_string('name', None, 'Of the line and of the folder.', required=True)
CONFIG = flags.DEFINE_string('config', None, 'File, with its argument.', required=True)
STACK = flags.DEFINE_string('stack', None, 'The network, see above.')
CHANGE = flags.DEFINE_multi_string('change', [], 'KEY=VALUE, a dotted key of the config.')
SEED = flags.DEFINE_integer('seed', 0, 'Of the run.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each name.', required=True)
RESULTS = flags.DEFINE_string(
  'results', None, 'Gets a line for each name; if not given, trials.jsonl in --workdir does.'
)


def trial() -> Trial:
  """Returns what the flags ask for."""
  whole = Trial(CONFIG.value, SEED.value).load()
  held_out = splits(whole.data.name)
  changes = dict(map(parse_change, CHANGE.value))
  for key in changes:
    if key in ('seed', *held_out):
      raise ValueError(f'--change={key}=…: the seed is --seed, the splits are those of held_out.py')
    try:
      operator.attrgetter(key)(whole)
    except AttributeError as error:  # it says what is near
      raise ValueError(f'--change={key}=…: the config has no such key. {error}') from error
  if STACK.value:
    changes['model.stack'] = parse(STACK.value)
  return Trial(CONFIG.value, SEED.value, {**held_out, **changes})


def main(_):
  asked = trial()
  folder = pathlib.Path(WORKDIR.value, NAME.value)
  key = {'task': asked.load().data.name, 'trial': NAME.value, **dataclasses.asdict(asked)}
  results = results_file(RESULTS.value, WORKDIR.value, 'trials.jsonl')
  add_missing(results, key, functools.partial(outcome, asked, folder))


if __name__ == '__main__':
  app.run(main)
