"""Searches for small networks, on a validation split cut from the training set; logs every trial.

python experiments/records/search.py --task=mnist --trials=30 --workdir=DIR

Trial i is drawn with the seed i, so the same command tries the same networks in the same order and
goes on where it stopped. Two processes may share the work: --first=0 --every=2 and --first=1 --every=2.

Afterwards, in one process, --longer=3 trains the best three of the trials in the log for five times as many epochs.
"""

import dataclasses
import functools
import pathlib
import sys

import numpy as np
from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from held_out import outcome, splits  # noqa: E402
from results import Trial, add_missing, parameters, read, results_file  # noqa: E402

# Data set, most parameters, and epochs of a trial, each two minutes on one core.
TASKS = {
  'mnist': ('configs/mnist.py:separable', 900, 8),
  'fashion_mnist': ('configs/fashion_mnist.py', 1850, 8),
}
# Multiplying is much faster than a learned power and costs no parameters, and small batches stay in
# the processor's cache.
FAST = {'model.p_mode': 'fixed', 'model.p_init': 2.0, 'batch_size': 32}
TASK = flags.DEFINE_enum('task', None, list(TASKS), 'Which record.', required=True)
TRIALS = flags.DEFINE_integer('trials', 30, 'How many networks.')
FIRST = flags.DEFINE_integer('first', 0, 'The first trial.')
EVERY = flags.DEFINE_integer('every', 1, 'The step between trials.', lower_bound=1)
LONGER = flags.DEFINE_integer('longer', 0, 'How many of the best to train five times as long.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each trial.', required=True)
RESULTS = flags.DEFINE_string(
  'results', None, 'Gets a line for each trial; if not given, trials.jsonl in --workdir does.'
)


def draw(task: str, number: int) -> Trial:
  """Returns trial `number`: the first drawn network that is just below the record."""
  file, limit, epochs = TASKS[task]
  rng = np.random.default_rng(number)
  while True:
    trial = Trial(
      file,
      0,
      {
        **network(rng),
        **FAST,
        'model.q_init': float(rng.choice([0.1, 0.3, 1.0])),
        'model.scale_init': (None, 10.0)[rng.integers(2)],
        'optimizer.schedule.peak_learning_rate': float(rng.choice([0.02, 0.03, 0.05])),
        'ema_decay': float(rng.choice([0.99, 0.999])),
        **splits(task),
        'total_epochs': epochs,
        'eval_every_epochs': epochs,
        'save_every_epochs': epochs,
      },
    )
    if 0.9 * limit <= parameters(trial.load()) < limit:
      return trial


def network(rng: np.random.Generator) -> dict:
  """Draws a first SCS layer and two or three separable ones, with an absolute max pool after each.

  A depthwise layer has kernels of its own for each channel, or one bank for all: nine numbers a
  kernel for any number of channels. Signs are dropped before each pool.
  """
  signs = [{'kind': 'abs'}]
  first = {'kind': 'scs', 'features': int(rng.integers(4, 13)), 'window': int(rng.choice([3, 5]))}
  stack = [first, *signs, {'kind': 'pool'}]
  levels = int(rng.integers(2, 4))
  for level in range(levels):
    depthwise = {'kind': 'depthwise'}
    if rng.random() < 0.5:
      depthwise |= {'share_kernels': True, 'multiplier': int(rng.integers(1, 4))}
    stack += [
      depthwise,
      {'kind': 'pointwise', 'features': int(rng.integers(6, 21))},
      *signs,
      {'kind': 'pool', 'window': 2 if level < levels - 1 else 7 if levels == 2 else 4},
    ]
  return {'model.stack': (*stack, {'kind': 'head'})}


def longer(trial: Trial) -> Trial:
  """Returns the trial with five times as many epochs."""
  epochs = {'total_epochs': 5 * trial.changes['total_epochs']}
  return dataclasses.replace(trial, changes={**trial.changes, **epochs})


def best(results: list[dict], task: str, trials: int, count: int) -> list[int]:
  """Returns the numbers of the best of the first `trials` trials, the best first."""
  done = [line for line in results if line['task'] == task and line['trial'] in range(trials)]
  return [line['trial'] for line in sorted(done, key=lambda line: -line['accuracy'])[:count]]


def main(_):
  task, results = TASK.value, results_file(RESULTS.value, WORKDIR.value, 'trials.jsonl')

  def add(name: int | str, trial: Trial) -> None:
    folder = pathlib.Path(WORKDIR.value, task, f'{name}')
    add_missing(results, {'task': task, 'trial': name}, functools.partial(outcome, trial, folder))

  for number in range(FIRST.value, TRIALS.value, EVERY.value):
    add(number, draw(task, number))
  for number in best(read(results), task, TRIALS.value, LONGER.value):
    add(f'{number} longer', longer(draw(task, number)))


if __name__ == '__main__':
  app.run(main)
