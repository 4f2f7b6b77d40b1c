"""MNIST, 99 % with few parameters: --config=configs/mnist.py:NETWORK.

    NETWORK      parameters   expected                            one CPU core
    plain        2,992        99.22 ± 0.07 % (row mnist_3000)          6 min
    separable    1,387        99.17 ± 0.10 % (row mnist_1400)          9 min
    smallest     881          98.93 ± 0.11 % (row mnist_881)          19 min
    883          883          98.96 ± 0.03 % (row mnist_883)          22 min
    eight        881          98.98 ± 0.15 % (row mnist_881_eight)    25 min

`plain` is the default: three SCS layers with absolute max pooling and a linear head.
Rows: see experiments/reproduce. Tuning: see experiments/records/history.md.

Command: python -m scs_jax.main --config=configs/mnist.py --workdir=/tmp/mnist
Source:  Pisoni, 2022: Sharpened Cosine Similarity: Part 2. The networks are ours.
"""

from ml_collections import ConfigDict

from scs_jax.errors import ArgumentError
from scs_jax.train.config import default

ABS, POOL, HEAD = {'kind': 'abs'}, {'kind': 'pool'}, {'kind': 'head'}
scs = lambda n, window, **settings: {'kind': 'scs', 'features': n, 'window': window, **settings}


def separable(features: int, **depthwise: object) -> tuple[dict, ...]:
  """Returns a depthwise layer with its own settings, a pointwise layer, and the magnitude."""
  return ({'kind': 'depthwise', **depthwise}, {'kind': 'pointwise', 'features': features}, ABS)


def deep(first: int, *widths: int, padding: str, window: int) -> tuple[dict, ...]:
  """Returns three separable pairs and a depthwise layer that compares the whole last map."""
  one, two, three = widths
  narrow = {'padding': padding, 'p_init': 1.0}
  early = (scs(first, 3, padding=padding, q_init=2.0), ABS, POOL)
  middle = (*separable(one, **narrow), *separable(two, **narrow), POOL)
  late = (*separable(three, p_init=1.0), POOL)
  whole_map = {'kind': 'depthwise', 'window': window, 'padding': 'VALID', 'p_init': 1.0}
  return (*early, *middle, *late, whole_map, HEAD)


SEPARABLE = (scs(8, 5), ABS, POOL, *separable(20), POOL, *separable(25))
NETWORKS = {
  'plain': (scs(11, 5), POOL, scs(12, 3), POOL, scs(10, 3), {**POOL, 'window': 4}, HEAD),
  'separable': (*SEPARABLE, {**POOL, 'window': 7}, HEAD),
  'smallest': deep(6, 9, 10, 12, padding='SAME', window=4),
  '883': deep(6, 10, 11, 13, padding='VALID', window=3),
  'eight': deep(8, 9, 11, 12, padding='VALID', window=3),
}
EPOCHS = {'plain': 15.0, 'separable': 25.0, 'smallest': 45.0, '883': 60.0, 'eight': 60.0}


def get_config(network: str = 'plain') -> ConfigDict:
  """Returns the config of a network."""
  if network not in NETWORKS:
    raise ArgumentError(f'mnist.py has no {network!r}; it has {", ".join(NETWORKS)}')
  config = default('scs_net')
  config.data.name = 'mnist'
  config.model.update(stack=NETWORKS[network], q_init=0.1)
  config.total_epochs = EPOCHS[network]
  config.ema_decay = 0.999
  if network == 'plain':
    config.augment.update(rotate=10.0, translate=0.07, scale=(0.9, 1.1), shear=5.0)
    config.model.scale_init = 10.0
    return config
  config.augment.update(rotate=5.0, translate=0.03)
  config.model.p_mode = 'shared'
  config.batch_size = 32
  if network == 'separable':
    config.model.update(q_init=1.0, scale_init=10.0)
  else:
    config.optimizer.schedule.peak_learning_rate = 0.05
  return config
