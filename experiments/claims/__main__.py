"""Trains every variant with every seed, seeds outermost; the same command again goes on.

python experiments/claims/run.py --data=fashion_mnist --workdir=DIR
python experiments/claims/run.py --data=fashion_mnist --workdir=DIR --tune

With --tune it trains the bases at several learning rates, on a validation split cut from the
training set, for `variants.LEARNING_RATES`.
"""

import functools
import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from net import ClaimNet  # noqa: E402
from results import Trial, add_missing, results_file, run, seeds  # noqa: E402
from variants import BASES, SETS, changes, comparisons, folder_of  # noqa: E402

from scs_jax import models  # noqa: E402

DATA = flags.DEFINE_multi_enum(
  'data', None, list(SETS), 'Which; may be given again.', required=True
)
FIRST = flags.DEFINE_integer('first_seed', 0, 'Where to begin.')
TUNE = flags.DEFINE_bool('tune', False, 'Try learning rates instead.')
SEEDS = flags.DEFINE_integer('seeds', 5, 'Seeds up to this one, exclusive.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)
RESULTS = flags.DEFINE_string(
  'results', None, 'Gets a line for each run; if not given, results.jsonl in --workdir does.'
)


def main(_):
  models.MODELS['claim_net'] = ClaimNet
  results = results_file(RESULTS.value, WORKDIR.value)
  if TUNE.value:
    tune(results)
    return
  for seed in seeds(FIRST.value, SEEDS.value):
    for data in DATA.value:
      for name, (base, change) in comparisons(data).items():
        trial = Trial(f'experiments/claims/config.py:{data}', seed, changes(data, base, change))
        key = {'data': data, 'variant': name, 'seed': seed, 'changes': trial.changes}
        add_missing(
          results,
          key,
          functools.partial(outcome, trial, folder_of(WORKDIR.value, data, name, seed)),
        )


def tune(results: pathlib.Path) -> None:
  """Trains every base once at each learning rate."""
  validation = {'data.train_split': 'train[:90%]', 'data.eval_split': 'train[90%:]'}
  for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3):
    for data in DATA.value:
      for base in BASES:
        tried = {
          **changes(data, base, {'optimizer.schedule.peak_learning_rate': rate}),
          **validation,
        }
        trial = Trial(f'experiments/claims/config.py:{data}', 0, tried)
        key = {'data': data, 'variant': f'tune: {base}', 'seed': 0, 'changes': tried}
        folder = pathlib.Path(WORKDIR.value, data, 'tune', f'{base}_{rate}'.replace(' ', ''))
        add_missing(results, key, functools.partial(outcome, trial, folder))


def outcome(trial: Trial, folder: pathlib.Path) -> dict:
  """Returns the result of a run; one that diverges is a result too."""
  from scs_jax.train import NonFiniteError

  try:
    return run(trial, folder)
  except NonFiniteError as error:
    return {'accuracy': None, 'error': str(error)}


if __name__ == '__main__':
  app.run(main)
