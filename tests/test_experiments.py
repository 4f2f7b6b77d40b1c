"""The claims: intervals, comparisons and attacks."""

import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from config_files import FOLDER
from scipy import stats

EXPERIMENTS = FOLDER.parent / 'experiments'


@pytest.fixture
def load(monkeypatch):
  """Runs a script as a module, with its folder on the path; forgets its modules and flags again."""
  before, known = set(sys.modules), set(flags.FLAGS)
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')  # some scripts set these for themselves
  monkeypatch.setenv('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')

  def load(script):
    path = EXPERIMENTS / script
    monkeypatch.setattr(sys, 'path', [str(path.parent), *sys.path])  # as for python PATH
    return runpy.run_path(str(path), run_name='imported')

  yield load
  for name in set(flags.FLAGS) - known:
    delattr(flags.FLAGS, name)
  for name in set(sys.modules) - before:
    if str(EXPERIMENTS) in (getattr(sys.modules[name], '__file__', None) or ''):
      del sys.modules[name]  # two folders have a run.py


def test_intervals_are_those_of_student(load):
  mean, half = load('claims/table.py')['interval']([1.0, 2.0, 4.0, 1.5])
  expected = stats.ttest_1samp([1.0, 2.0, 4.0, 1.5], 0).confidence_interval(0.95)
  np.testing.assert_allclose((mean - half, mean + half), expected)


def test_claims_are_compared_seed_by_seed_with_their_own_base(load):
  names = load('claims/table.py')
  accuracies = {  # by variant; None: diverged. Seed 2 of the variant has no base to compare it with.
    'SCS': {0: 0.8, 1: 0.9},
    'conv + ReLU': {0: 0.1, 1: 0.1},
    'SCS: input × 255': {0: 0.79, 1: 0.87, 2: 0.1},
    'SCS: max pool': {0: None},
    'SCS: average pool': {7: 0.5},
  }
  results = [
    {
      'data': 'cifar10',
      'variant': name,
      'seed': seed,
      'accuracy': accuracy,
      'changes': names['changes']('cifar10', *names['comparisons']('cifar10')[name]),
    }
    for name, seeds in accuracies.items()
    for seed, accuracy in seeds.items()
  ]
  lines = names['table'](results, 'cifar10').splitlines()
  assert '| **SCS** | 85.00 % | 2 | | |' in lines
  assert '| SCS: input × 255 | 58.67 % | 3 (2 pairs) | -2.00 | -14.71 … +10.71 |' in lines
  assert '| SCS: max pool | diverged | 1 | | |' in lines
  assert '| SCS: average pool | 50.00 % | 1 | its base was not run | |' in lines


def test_attacks_climb_and_stay_within_their_bounds(load):
  names = load('claims/robustness.py')
  x = jax.random.uniform(jax.random.key(0), (64, 2, 2, 1), minval=0.4, maxval=0.6)
  flat = lambda x: x.reshape(len(x), -1).sum(1)
  model = lambda x: jnp.stack([10 * flat(x), jnp.full(len(x), 20.0)], -1)
  labels = model(x).argmax(-1)
  for norm, size in (('linf', 0.1), ('l2', 0.2)):
    for steps in (1, 5):
      worst, losses = names['attack'](
        model, x, labels, jax.random.key(1), norm=norm, size=size, steps=steps, restarts=2
      )
      change = (worst - x).reshape(len(x), -1)
      length = jnp.linalg.norm(change, jnp.inf if norm == 'linf' else 2, axis=1)
      np.testing.assert_array_less(length, size * 1.0001)
      assert (worst >= 0).all()
      assert (worst <= 1).all()
      assert losses[-1] > losses[0]
      assert (model(worst).argmax(-1) == labels).mean() < 0.7


def test_only_images_that_both_networks_classify_right_are_attacked(load):
  x = jnp.array([0.2, 0.4, 0.6, 0.8]).reshape(4, 1, 1, 1)
  below, above = (  # what is of class 0
    lambda x: jnp.stack([0.5 - x[:, 0, 0, 0], jnp.zeros(len(x))], -1),
    lambda x: jnp.stack([x[:, 0, 0, 0] - 0.3, jnp.zeros(len(x))], -1),
  )
  pair = {'below': below, 'above': above}
  shares, _ = load('claims/robustness.py')['measure'](pair, x, jnp.zeros(4, int), jax.random.key(0))
  assert shares['all test images'] == {'below': 0.5, 'above': 0.75}
  assert shares['check: noise of ℓ∞ 4/255'] == {'below': 1.0, 'above': 1.0}  # of 0.4 alone
  assert shares['check: PGD without a bound'] == {'below': 0.0, 'above': 0.0}
