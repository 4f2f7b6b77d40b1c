"""The base of every variant of the claims: `ClaimNet` for three or four epochs.

Expected: experiments/claims/README.md, the rows in bold.
Command:  python -m experiments.claims --data=DATA --workdir=DIR
"""

from ml_collections import ConfigDict

from scs_jax.train.config import default

AUGMENTATIONS = {
  'mnist': {'rotate': 10.0, 'translate': 0.07, 'scale': (0.9, 1.1), 'shear': 5.0},
  'fashion_mnist': {'shift': 2, 'flip': True},
  'cifar10': {'shift': 4, 'flip': True},
}
EPOCHS = {'mnist': 3, 'fashion_mnist': 3, 'cifar10': 4}


def get_config(data: str = 'fashion_mnist') -> ConfigDict:
  """Returns the config.

  Args:
    data: 'mnist', 'fashion_mnist' or 'cifar10'.
  """
  config = default('experiments.claims.net:ClaimNet')
  config.data.name = data
  config.model.scale_init = 10.0
  config.augment.update(AUGMENTATIONS[data])
  # The runs are too short to average parameters: ema_decay stays None.
  config.total_epochs = config.eval_every_epochs = config.save_every_epochs = float(EPOCHS[data])
  config.keep_latest, config.keep_best = 1, 0
  return config
