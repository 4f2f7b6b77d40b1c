"""The networks that are explained: experiments/explain/config.py:DATA,VARIANT.

DATA is 'mnist', 'fashion_mnist' or 'cifar10'. VARIANT is 'scs', or 'conv' for the twin of
convolution + BatchNorm + ReLU.

Expected: experiments/explain/README.md.
Command:  python -m experiments.explain --data=mnist --workdir=DIR
"""

from ml_collections import ConfigDict

from scs_jax.train.config import default

SETTINGS = {
  'mnist': {'epochs': 5.0, 'augment': {'rotate': 10.0, 'translate': 0.07}},
  'fashion_mnist': {'epochs': 5.0, 'augment': {'shift': 2, 'flip': True}},
  'cifar10': {'epochs': 15.0, 'augment': {'shift': 4, 'flip': True}},
}


def get_config(argument: str = 'mnist,scs') -> ConfigDict:
  """Returns the config of a data set and a variant."""
  data, variant = argument.split(',')
  config = default('experiments.explain.net:PooledNet')
  config.data.name = data
  config.augment.update(SETTINGS[data]['augment'])
  config.model.update(variant=variant, q_init=0.1, scale_init=10.0)
  if data == 'cifar10':
    config.model.update(widths=(16, 32, 64), windows=(3, 3, 3))
  config.total_epochs = SETTINGS[data]['epochs']
  config.ema_decay = 0.99
  config.keep_latest, config.keep_best = 1, 0
  return config
