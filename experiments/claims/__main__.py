"""Trains every variant with every seed, seeds outermost.

python -m experiments.claims --data=fashion_mnist --workdir=DIR
python -m experiments.claims --data=fashion_mnist --workdir=DIR --tune

Run the same command again to resume. With --tune it trains the bases at several learning rates
instead, on the first nine tenths of the training set, and evaluates them on the last tenth:
`variants.LEARNING_RATES` was chosen so.
"""

import functools
import pathlib

from absl import flags as absl_flags

from experiments import flags
from experiments.claims.variants import (
  BASES,
  SETS,
  changes,
  comparisons,
  config_of,
  folder_of,
  trial_of,
)
from experiments.results import Trial, add_missing, results_file, run
from scs_jax.train import NonFiniteError

DATA = absl_flags.DEFINE_multi_enum(
  'data', None, list(SETS), 'The data set; may be given more than once.', required=True
)
TUNE = absl_flags.DEFINE_bool('tune', False, 'Try learning rates instead.')
SEEDS = flags.seeds('0-4')
WORKDIR = flags.workdir()
RESULTS = flags.results()

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def main(_: list[str]) -> None:
  results = results_file(RESULTS.value, WORKDIR.value)
  if TUNE.value:
    tune(results)
    return
  for seed in SEEDS.value:
    for data in DATA.value:
      for name in comparisons(data):
        trial = trial_of(data, name, seed)
        key = {'data': data, 'variant': name, 'seed': seed, 'changes': trial.changes}
        folder = folder_of(WORKDIR.value, data, name, seed)
        add_missing(results, key, functools.partial(outcome, trial, folder))


def tune(results: pathlib.Path) -> None:
  """Trains every base once at each learning rate."""
  validation = {'data.train_split': 'train[:90%]', 'data.eval_split': 'train[90%:]'}
  for rate in RATES:
    for data in DATA.value:
      for base in BASES:
        tried = {
          **changes(data, base, {'optimizer.schedule.peak_learning_rate': rate}),
          **validation,
        }
        key = {'data': data, 'variant': f'tune: {base}', 'seed': 0, 'changes': tried}
        folder = pathlib.Path(WORKDIR.value, data, 'tune', f'{base}_{rate}'.replace(' ', ''))
        trial = Trial(config_of(data), 0, tried)
        add_missing(results, key, functools.partial(outcome, trial, folder))


def outcome(trial: Trial, folder: pathlib.Path) -> dict:
  """Returns the result of a run. A run that diverges is a result too."""
  try:
    return run(trial, folder)
  except NonFiniteError as error:
    return {'accuracy': None, 'error': str(error)}


if __name__ == '__main__':
  flags.run(main)
