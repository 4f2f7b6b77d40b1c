"""Which map makes p and q positive? Trains a small network with each; prints and writes the table.

python experiments/parametrisation/run.py
"""

import json
import os
import pathlib
import runpy
import statistics
import tempfile

from absl import app, flags
from jax import nn
from jax import numpy as jnp

from scs_jax import train
from scs_jax.train import sharding
from scs_jax.layers import parameters

SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'One run for each map.')
EPOCHS = flags.DEFINE_integer('epochs', 20, 'Length of each run.')
HERE = pathlib.Path(__file__).parent

# name: (from the unconstrained parameter, back). The clip is what two of the peers do: p itself,
# kept within its bounds inside the graph.
MAPS = {
  'softplus': (nn.softplus, lambda v: v + jnp.log(-jnp.expm1(-v))),
  'exp': (jnp.exp, jnp.log),
  'exp(raw / 5)': (lambda r: jnp.exp(r / 5), lambda v: 5 * jnp.log(v)),
  'square': (jnp.square, jnp.sqrt),
  'clip': (lambda r: jnp.clip(r, 1e-6, 20.0), lambda v: v),
}
LEARNING_RATES = (0.03,)


def small_quickstart():
  """The quickstart with a strided first layer: 20 epochs take seconds."""
  path = HERE.parent.parent / 'configs' / 'quickstart.py'
  config = runpy.run_path(str(path))['get_config']()
  config.model.stack = (
    {'kind': 'scs', 'features': 11, 'window': 5, 'strides': 2},
    {'kind': 'scs', 'features': 12},
    {'kind': 'pool'},
    {'kind': 'scs', 'features': 10},
    {'kind': 'pool', 'window': 4},
    {'kind': 'head'},
  )
  return config


def accuracy(name: str, learning_rate: float, seed: int) -> float | None:
  """Returns the held-out accuracy, or None if the training diverged."""
  parameters.positive, parameters.raw = MAPS[name]
  config = small_quickstart()
  config.seed, config.total_epochs = seed, EPOCHS.value
  config.eval_every_epochs = config.save_every_epochs = EPOCHS.value
  config.optimizer.schedule.peak_learning_rate = learning_rate
  with tempfile.TemporaryDirectory() as workdir:
    try:
      return train.train_and_evaluate(config, workdir)['val/accuracy']
    except train.NonFiniteError:
      return None


def main(_):
  sharding.use_cpu_cores(small_quickstart().batch_size)
  rows = []
  for learning_rate in LEARNING_RATES:
    for name in MAPS:
      runs = [accuracy(name, learning_rate, int(seed)) for seed in SEEDS.value]
      rows.append({'map': name, 'peak_learning_rate': learning_rate, 'accuracy': runs})
  results = {'rows': rows, 'epochs': EPOCHS.value, 'cores': os.cpu_count()}
  (HERE / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
  print('| map | peak learning rate | mean accuracy | runs |\n|---|---|---|---|')
  for row in rows:
    finite = [a for a in row['accuracy'] if a is not None]
    mean = f'{statistics.mean(finite):.4f}' if finite else '–'
    runs = ', '.join('diverged' if a is None else f'{a:.3f}' for a in row['accuracy'])
    print(f'| {row["map"]} | {row["peak_learning_rate"]} | {mean} | {runs} |')


if __name__ == '__main__':
  app.run(main)
