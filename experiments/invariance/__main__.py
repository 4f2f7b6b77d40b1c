"""Trains every variant with every seed, then changes the light of the test images.

python -m experiments.invariance --data=quickstart --workdir=DIR
python -m experiments.invariance --data=quickstart --workdir=DIR --tune

Run the same command again to resume. With --tune it trains every variant at several learning rates
instead, on the first nine tenths of the training set, and evaluates it on the last tenth:
`LEARNING_RATES` was chosen so.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
from absl import flags as absl_flags
from flax import nnx

from experiments import flags
from experiments.invariance.changes import illuminations
from experiments.invariance.table import DATA_SETS, LEARNING_RATES, VARIANTS
from experiments.results import Trial, add_missing, results_file, run
from scs_jax import data, train
from scs_jax.train import NonFiniteError

DATA = absl_flags.DEFINE_enum('data', None, DATA_SETS, 'The data set.', required=True)
VARIANT = absl_flags.DEFINE_multi_enum(
  'variant', list(VARIANTS), list(VARIANTS), 'A variant; may be given more than once.'
)
EPOCHS = absl_flags.DEFINE_float('epochs', None, "Length of the training; None is the config's.")
TUNE = absl_flags.DEFINE_bool('tune', False, 'Try learning rates instead.')
SEEDS = flags.seeds('0-4')
WORKDIR = flags.workdir()
RESULTS = flags.results()

RATES = (0.003, 0.01, 0.03, 0.1)
BATCH = 500


def main(_: list[str]) -> None:
  results = results_file(RESULTS.value, WORKDIR.value)
  for seed in SEEDS.value:
    for variant in VARIANT.value:
      for rate in RATES if TUNE.value else (LEARNING_RATES[DATA.value][variant],):
        _add(results, variant, seed, rate)


def _add(results: pathlib.Path, variant: str, seed: int, rate: float) -> None:
  changes = {'optimizer.schedule.peak_learning_rate': rate}
  if EPOCHS.value is not None:
    changes |= {f'{key}_epochs': EPOCHS.value for key in ('total', 'eval_every', 'save_every')}
  if TUNE.value:
    changes |= {'data.train_split': 'train[:90%]', 'data.eval_split': 'train[90%:]'}
  key = {'data': DATA.value, 'variant': variant, 'seed': seed, 'changes': changes}
  name = '_'.join((variant, f'{rate}', f'{EPOCHS.value or ""}', 'tune' if TUNE.value else ''))
  folder = pathlib.Path(WORKDIR.value, DATA.value, f'{seed}', name.rstrip('_'))
  config = f'configs/invariant.py:{DATA.value},{variant}'
  if variant == 'relu':
    config = f'experiments/invariance/config.py:{DATA.value}'
  trial = Trial(config, seed, changes)
  add_missing(results, key, functools.partial(outcome, trial, folder))


def outcome(trial: Trial, folder: pathlib.Path) -> dict:
  """Trains a network, and evaluates it in each light. A run that diverges is a result too."""
  try:
    result = run(trial, folder)
  except NonFiniteError as error:
    return {'accuracy': None, 'error': str(error)}
  if TUNE.value:
    return result
  config = trial.load()
  test = data.load(config.data.name, config.data.eval_split)
  images, labels = train.as_float(jnp.asarray(test.images)), jnp.asarray(test.labels)
  graph, state = nnx.split(train.load(folder))
  predict = jax.jit(lambda x: nnx.merge(graph, state)(x).argmax(-1))
  shares = {}
  for name, changed in illuminations(images, jax.random.key(trial.seed)).items():
    batches = jnp.split(changed, [*range(BATCH, len(changed), BATCH)])
    right = jnp.concatenate([predict(batch) for batch in batches]) == labels
    shares[name] = float(right.mean())
  return {**result, 'light': shares}


if __name__ == '__main__':
  flags.run(main)
