"""Networks that are blind to light: --config=configs/invariant.py:DATA,VARIANT.

DATA is `quickstart` (the default: digits that come with a package), `mnist`, `fashion_mnist` or
`cifar10`. VARIANT is

    contrast            q = 0 in the first layer: the logits do not change with the contrast of the
                        image, by a power of two not in one bit (the default)
    offset              also centred, in every layer: the logits do not change with the brightness
    scs                 neither
    conv                the twin: convolution + BatchNorm + ReLU

`contrast_abs`, `offset_abs` and `scs_abs` take the magnitude behind every SCS layer.

Expected: experiments/invariance/README.md, with accuracies and times.
Command:  python -m scs_jax.main --config=configs/invariant.py:mnist,offset --workdir=/tmp/blind
Source:   the networks are ours. Centred similarity is Pearson's correlation (Lewis, 1995: Fast
          Normalized Cross-Correlation).
"""

from ml_collections import ConfigDict

from scs_jax.errors import check_known
from scs_jax.train.config import default

POOL, HEAD = {'kind': 'pool'}, {'kind': 'head'}
scs = lambda features, window: {'kind': 'scs', 'features': features, 'window': window}
SMALL = (scs(11, 5), POOL, scs(12, 3), POOL, scs(10, 3), {**POOL, 'window': 4}, HEAD)
WIDE = (scs(32, 3), POOL, scs(64, 3), POOL, scs(128, 3), POOL, HEAD)
# Name of the data set, stack, epochs and augmentation.
NETWORKS = {
  'quickstart': (
    'mnist5k',
    SMALL,
    80.0,
    {'rotate': 15.0, 'translate': 0.1, 'scale': (0.85, 1.15), 'shear': 10.0},
  ),
  'mnist': (
    'mnist',
    SMALL,
    5.0,
    {'rotate': 10.0, 'translate': 0.07, 'scale': (0.9, 1.1), 'shear': 5.0},
  ),
  'fashion_mnist': ('fashion_mnist', SMALL, 5.0, {'shift': 2, 'flip': True}),
  'cifar10': ('cifar10', WIDE, 4.0, {'shift': 4, 'flip': True}),
}
SCS_VARIANTS = ('scs', 'scs_abs', 'contrast', 'contrast_abs', 'offset', 'offset_abs')
VARIANTS = (*SCS_VARIANTS, 'conv')


def get_config(argument: str = 'quickstart,contrast') -> ConfigDict:
  """Returns the config of 'DATA,VARIANT'."""
  data, _, variant = argument.partition(',')
  variant = variant or 'contrast'
  check_known('data', data, tuple(NETWORKS))
  check_known('variant', variant, VARIANTS)
  name, stack, epochs, augment = NETWORKS[data]
  config = default('scs_net')
  config.data.name = name
  config.augment.update(augment)
  config.model.stack = stack
  if variant == 'conv':
    config.model.variant = 'conv'
  else:
    kind, _, magnitude = variant.partition('_')
    config.model.update(q_init=0.1, scale_init=10.0, center=kind == 'offset')
    config.model.stack = _stack(stack, kind != 'scs', bool(magnitude))
  config.total_epochs = config.eval_every_epochs = config.save_every_epochs = epochs
  if data == 'quickstart':
    config.batch_size, config.ema_decay = 64, 0.995
  return config


def _stack(stack: tuple[dict, ...], blind: bool, magnitude: bool) -> tuple[dict, ...]:
  """Returns the stack with q = 0 in its first layer, and with a magnitude after each layer."""
  first, *others = stack
  if blind:
    first = {**first, 'q_init': 0.0}
  after = lambda entry: (
    (entry, {'kind': 'abs'}) if magnitude and entry['kind'] == 'scs' else (entry,)
  )
  return tuple(made for entry in (first, *others) for made in after(entry))
