"""Attacks the networks of the claims: SCS beside another network, seed by seed.

python -m experiments.claims.robustness --data=fashion_mnist --seeds=0-2 --workdir=DIR

With the --workdir of `python -m experiments.claims` it uses the networks trained there. It trains
those that are missing or unfinished first. --against='SCS: q from 1' compares SCS with a variant
instead of its convolutional twin.
"""

import functools
import os

import jax
import jax.numpy as jnp
from absl import flags as absl_flags
from flax import nnx

from experiments import flags
from experiments.claims import attacks, table
from experiments.claims.variants import SETS, comparisons, folder_of, trial_of
from experiments.results import add_missing, read, results_file, run, with_key
from scs_jax import data, train
from scs_jax.errors import check_known

DATA = absl_flags.DEFINE_enum('data', 'fashion_mnist', list(SETS), 'The data set.')
AGAINST = absl_flags.DEFINE_string(
  'against', 'conv + BatchNorm + ReLU', 'The variant that SCS is compared with.'
)
SEEDS = flags.seeds('0-4')
WORKDIR = flags.workdir()
RESULTS = flags.results()


def main(_: list[str]) -> None:
  os.environ.setdefault('JAX_NUM_CPU_DEVICES', '1')  # attacks are not sharded
  others = [name for name in comparisons(DATA.value) if name != 'SCS']
  check_known('--against', AGAINST.value, others)
  results = results_file(RESULTS.value, WORKDIR.value, 'robustness.jsonl')
  test = data.load(DATA.value, 'test')
  images, labels = train.as_float(jnp.asarray(test.images)), jnp.asarray(test.labels)
  networks = {'data': DATA.value, 'against': AGAINST.value}
  for seed in SEEDS.value:
    key = {**networks, 'seed': seed}
    add_missing(results, key, functools.partial(outcome, images, labels, seed))
  print(table.of_robustness(with_key(read(results), networks)))


def outcome(images: jax.Array, labels: jax.Array, seed: int) -> dict[str, dict]:
  """Returns the results of the attacks on both networks of a seed."""
  pair = {name: trained(name, seed) for name in ('SCS', AGAINST.value)}
  shares, curves = attacks.measure(pair, images, labels, jax.random.key(seed))
  return {'shares': shares, 'loss curves': curves}


def trained(name: str, seed: int) -> attacks.Network:
  """Returns the network of a variant. Trains it first, or resumes it, if it is not finished."""
  folder = folder_of(WORKDIR.value, DATA.value, name, seed)
  run(trial_of(DATA.value, name, seed), folder)
  graph, state = nnx.split(train.load(folder))
  return lambda x: nnx.merge(graph, state)(x)


if __name__ == '__main__':
  flags.run(main)
