"""Trains a small network with each map that makes p and q positive.

python -m experiments.parametrisation --workdir=DIR

Adds a line for each map and seed. Run the same command again to resume.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
from absl import flags as absl_flags
from jax import nn
from jax import numpy as jnp

from experiments import flags
from experiments.results import Trial, add_missing, results_file, run
from scs_jax import train
from scs_jax.layers import parameters

SEEDS = flags.seeds('0-2')
WORKDIR = flags.workdir()
RESULTS = flags.results()
EPOCHS = absl_flags.DEFINE_integer('epochs', 20, 'Length of each run.')
LEARNING_RATE = 0.03

# From the unconstrained parameter to the positive number, and back. The clip, which two earlier
# implementations use, keeps p itself within bounds inside the graph.
Map = tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]
MAPS: dict[str, Map] = {
  'softplus': (nn.softplus, lambda v: v + jnp.log(-jnp.expm1(-v))),
  'exp': (jnp.exp, jnp.log),
  'exp(raw / 5)': (lambda r: jnp.exp(r / 5), lambda v: 5 * jnp.log(v)),
  'square': (jnp.square, jnp.sqrt),
  'clip': (lambda r: jnp.clip(r, 1e-6, 20.0), lambda v: v),
}

# The network of the quickstart with a strided first layer: 20 epochs take seconds.
STACK = (
  {'kind': 'scs', 'features': 11, 'window': 5, 'strides': 2},
  {'kind': 'scs', 'features': 12},
  {'kind': 'pool'},
  {'kind': 'scs', 'features': 10},
  {'kind': 'pool', 'window': 4},
  {'kind': 'head'},
)


def outcome(name: str, trial: Trial, folder: pathlib.Path) -> dict[str, Any]:
  """Trains with the map `name`; returns the result, with no accuracy if the training diverged."""
  positive, raw = MAPS[name]
  with mock.patch.multiple(parameters, positive=positive, raw=raw):
    try:
      return run(trial, folder)
    except train.NonFiniteError as error:
      return {'accuracy': None, 'error': str(error)}


def main(_: list[str]) -> None:
  """Adds a line for each map and seed that has none."""
  results = results_file(RESULTS.value, WORKDIR.value)
  epochs = EPOCHS.value
  changes = {
    'model.stack': STACK,
    'total_epochs': epochs,
    'eval_every_epochs': epochs,
    'save_every_epochs': epochs,
    'optimizer.schedule.peak_learning_rate': LEARNING_RATE,
  }
  for number, name in enumerate(MAPS):
    for seed in SEEDS.value:
      trial = Trial('configs/quickstart.py', seed, changes)
      folder = pathlib.Path(WORKDIR.value, f'map_{number}', f'{seed}')
      key = {'map': name, 'peak_learning_rate': LEARNING_RATE, 'epochs': epochs, 'seed': seed}
      add_missing(results, key, functools.partial(outcome, name, trial, folder))


if __name__ == '__main__':
  flags.run(main)
