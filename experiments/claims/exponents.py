"""Follows p through training, from several initial values.

python -m experiments.claims.exponents --data=fashion_mnist --workdir=DIR

It trains the base network of the claims, saves a checkpoint every quarter of an epoch, and reads p
from each. Run the same command again to resume.
"""

import functools
import pathlib
from typing import Any

import numpy as np
from absl import flags as absl_flags

from experiments import flags
from experiments.claims import table
from experiments.claims.variants import SETS, changes, config_of
from experiments.results import Trial, add_missing, read, results_file, run, with_key
from scs_jax import train

DATA = absl_flags.DEFINE_enum(
  'data', 'fashion_mnist', [data for data, details in SETS.items() if details], 'The data set.'
)
WORKDIR = flags.workdir()
RESULTS = flags.results()

BEGINNINGS = (1.0, 2.0, 3.0, 5.0)
EVERY = 0.25  # epochs


def main(_: list[str]) -> None:
  results = results_file(RESULTS.value, WORKDIR.value, 'exponents.jsonl')
  for p_init in BEGINNINGS:
    key = {'data': DATA.value, 'p_init': p_init, 'seed': 0}
    add_missing(results, key, functools.partial(course, p_init))
  print(table.of_exponents(with_key(read(results), {'data': DATA.value})))


def course(p_init: float) -> dict:
  """Trains; returns steps, p of every kernel of every layer at each step, and the accuracy."""
  flat = {
    **changes(DATA.value, 'SCS', {'p_init': p_init}),
    'save_every_epochs': EVERY,
    'keep_latest': 1000,
  }
  folder = pathlib.Path(WORKDIR.value, f'p_{DATA.value}_{p_init}')
  result = run(Trial(config_of(DATA.value), 0, flat), folder)
  steps = sorted(int(p.name) for p in (folder / 'checkpoints').iterdir() if p.name.isdecimal())
  levels = []
  for step in steps:
    model: Any = train.load(folder, step)
    levels.append([np.asarray(level.p).tolist() for level in model.levels if hasattr(level, 'p')])
  return {'steps': steps, 'p': levels, 'accuracy': result['accuracy']}


if __name__ == '__main__':
  flags.run(main)
