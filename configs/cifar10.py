"""CIFAR-10 with every architecture: --config=configs/cifar10.py:NETWORK,variant=VARIANT.

    NETWORK             parameters   expected
    three_layers        113,741      80.66 % (row cifar10_113741), 132 min on one CPU core, with
                                     --config.total_epochs=30 --config.ema_decay=0.999
    resnet20            281,311      88.04 % (row cifar10_281311), 87 min on two CPU cores
    hukkelas_residual   1,251,284    82.00 % (row cifar10_1251284), 1 min on a GPU
                                     87.74 % (row cifar10_1251284_60), 2 min on a GPU, with
                                     --config.total_epochs=60 --config.augment.cutout=8
    hukkelas 1,207,825, resnet56 863,299, resnet18 11,184,542, convmixer256_8 585,499,
    densenet100 748,435, cct2 283,421, autoencoder 140,472 (reconstruction): not trained to the end

NETWORK defaults to `three_layers`. VARIANT is `scs`, the default, to which the counts belong, or
`conv`, the twin: convolution + BatchNorm + ReLU. Rows (seed 0, one run) are in
experiments/reproduce; other trials are in experiments/zoo. experiments/records/history.md describes
the tuning.

Command: python -m scs_jax.main --config=configs/cifar10.py:resnet20 --workdir=/tmp/cifar10
Twin:    --config=configs/cifar10.py:resnet20,variant=conv
Source:  Pisoni, 2022: Sharpened Cosine Similarity: Part 2; the modules of scs_jax/models/ name the
         papers of the architectures.
"""

from ml_collections import ConfigDict

from scs_jax.errors import ArgumentError
from scs_jax.train.config import default

WIDTHS, POOL, HEAD = (32, 64, 128), {'kind': 'pool'}, {'kind': 'head'}
SCS = tuple({'kind': 'scs', 'features': width, 'window': 3} for width in WIDTHS)
RESNET = {'widths': (16, 32, 64), 'downsample': 'pool', 'head': 'flat'}
# The model of each network, and its sizes.
NETWORKS = {
  'three_layers': ('scs_net', {'stack': (SCS[0], POOL, SCS[1], POOL, SCS[2], POOL, HEAD)}),
  'hukkelas': ('hukkelas', {'width': 32, 'levels': 3}),
  'hukkelas_residual': ('hukkelas', {'width': 32, 'levels': 3, 'residual': True}),
  'resnet20': ('resnet', {**RESNET, 'blocks': (3, 3, 3)}),
  'resnet56': ('resnet', {**RESNET, 'blocks': (9, 9, 9)}),
  'resnet18': ('resnet', {**RESNET, 'widths': (64, 128, 256, 512), 'blocks': (2, 2, 2, 2)}),
  'convmixer256_8': ('convmixer', {'width': 256, 'depth': 8, 'window': 5, 'patch': 2}),
  'densenet100': ('densenet', {'layers': (16, 16, 16), 'growth': 12}),
  'cct2': ('cct', {'width': 128, 'depth': 2, 'heads': 2, 'tokeniser': (64,)}),
  'autoencoder': ('autoencoder', {'widths': (32, 64), 'code': 16}),
}


def get_config(argument: str = '') -> ConfigDict:
  """Returns the config of a network, 'three_layers', and a variant, 'scs'."""
  network, variant = _parse(argument)
  model, sizes = NETWORKS[network]
  config = default(model)
  config.data.name = 'cifar10'
  config.augment.update(shift=4, flip=True)
  config.model.update(sizes, variant=variant)
  schedule = config.optimizer.schedule
  if network == 'three_layers':
    config.total_epochs = 100.0
    schedule.peak_learning_rate = 0.05
    return config
  config.total_epochs = 24.0
  config.ema_decay = 0.999
  schedule.peak_learning_rate = 0.02 if (model, variant) == ('resnet', 'scs') else 0.002
  config.optimizer.clip_norm = 1.0
  config.eval_every_epochs = 4.0
  config.save_every_epochs = 1.0
  if model == 'resnet':  # an SCS block starts as little more than its shortcut
    config.model.update(output='bounded', p_init=2.0)
  if model == 'autoencoder':
    config.objective = 'reconstruction'
  return config


def _parse(argument: str) -> tuple[str, str]:
  """Splits 'resnet20,variant=conv' into the network and the variant; both are optional."""
  network, variant = 'three_layers', 'scs'
  for word in filter(None, argument.split(',')):
    name, _, value = word.rpartition('=')
    if name == 'variant' and value in ('scs', 'conv'):
      variant = value
    elif not name and word in NETWORKS:
      network = word
    else:
      raise ArgumentError(
        f'cifar10.py does not know {word!r}; it takes variant=scs, variant=conv and one of '
        f'{", ".join(NETWORKS)}'
      )
  return network, variant
