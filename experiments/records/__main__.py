"""Searches for small networks at random on a validation split, and logs every trial.

python -m experiments.records --task=mnist --trials=30 --workdir=DIR

Trial i is drawn with the seed i, so a repeated command draws the same networks; it resumes where it
stopped. Two processes may share the work: --first=0 --every=2 and --first=1 --every=2. Afterwards
--longer=3, in one process, trains the best three trials of the log for five times as many epochs.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
from absl import flags as absl_flags

from experiments import flags
from experiments.records.held_out import outcome, splits
from experiments.results import Trial, add_missing, parameters, read, results_file
from scs_jax.train import Experiment

# Config, most parameters, and epochs of a trial, which takes two minutes on one core.
TASKS = {
  'mnist': ('configs/mnist.py:separable', 900, 8),
  'fashion_mnist': ('configs/fashion_mnist.py', 1850, 8),
}
IMAGES = {'input_shape': (28, 28, 1), 'num_classes': 10}
# A fixed p of 2 is a multiplication, which is much faster than a learned power and has no
# parameters. Small batches stay in the processor's cache.
FAST = {'model.p_mode': 'fixed', 'model.p_init': 2.0, 'batch_size': 32}
TASK = absl_flags.DEFINE_enum('task', None, list(TASKS), 'Which record.', required=True)
TRIALS = absl_flags.DEFINE_integer('trials', 30, 'How many networks.')
FIRST = absl_flags.DEFINE_integer('first', 0, 'The first trial.')
EVERY = absl_flags.DEFINE_integer('every', 1, 'The step between trials.', lower_bound=1)
LONGER = absl_flags.DEFINE_integer('longer', 0, 'How many of the best to train longer.')
WORKDIR = flags.workdir()
RESULTS = flags.results()


def draw(task: str, number: int) -> Trial:
  """Returns trial `number`: the first drawn network with 90 to 100 % of the parameters allowed."""
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
    if 0.9 * limit <= parameters(Experiment(trial.load(), sizes=IMAGES)) < limit:
      return trial


def network(rng: np.random.Generator) -> dict[str, Any]:
  """Draws a first SCS layer and two or three separable ones, with an absolute max pool after each.

  A depthwise layer has its own kernels for each channel, or one bank that all channels share: nine
  numbers a kernel for any number of channels. The magnitude is taken before each pool.
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
  """Returns the numbers of the `count` best of the first `trials` trials, best first."""
  done = [line for line in results if line['task'] == task and line['trial'] in range(trials)]
  return [line['trial'] for line in sorted(done, key=lambda line: -line['accuracy'])[:count]]


def main(_: list[str]) -> None:
  """Adds a line for each trial that has none."""
  task, results = TASK.value, results_file(RESULTS.value, WORKDIR.value, 'trials.jsonl')

  def add(name: int | str, trial: Trial) -> None:
    folder = pathlib.Path(WORKDIR.value, task, f'{name}')
    add_missing(results, {'task': task, 'trial': name}, functools.partial(outcome, trial, folder))

  for number in range(FIRST.value, TRIALS.value, EVERY.value):
    add(number, draw(task, number))
  for number in best(read(results), task, TRIALS.value, LONGER.value):
    add(f'{number} longer', longer(draw(task, number)))


if __name__ == '__main__':
  flags.run(main)
