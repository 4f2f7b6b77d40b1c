"""Tables of the claims: intervals, and pairs by seed."""

import numpy as np
from scipy import stats

from experiments.claims.table import interval, of_claims
from experiments.claims.variants import changes, comparisons


def test_intervals_are_those_of_student():
  mean, half = interval([1.0, 2.0, 4.0, 1.5])
  expected = stats.ttest_1samp([1.0, 2.0, 4.0, 1.5], 0).confidence_interval(0.95)
  np.testing.assert_allclose((mean - half, mean + half), expected)


def test_claims_are_compared_seed_by_seed_with_their_own_base():
  accuracies = {  # by variant and seed; None: diverged. Seed 2 of the variant has no base.
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
      'changes': changes('cifar10', *comparisons('cifar10')[name]),
    }
    for name, seeds in accuracies.items()
    for seed, accuracy in seeds.items()
  ]
  lines = of_claims(results, 'cifar10').splitlines()
  assert '| **SCS** | 85.00 % | 2 | | |' in lines
  assert '| SCS: input × 255 | 58.67 % | 3 (2 pairs) | -2.00 | -14.71 … +10.71 |' in lines
  assert '| SCS: max pool | diverged | 1 | | |' in lines
  assert '| SCS: average pool | 50.00 % | 1 | its base was not run | |' in lines
