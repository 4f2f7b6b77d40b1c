"""Fashion-MNIST, 90 % with few parameters: --config=configs/fashion_mnist.py:NETWORK.

    NETWORK   parameters   expected                             one CPU core
    2764      2,757        89.81 ± 0.12 % (row fashion_2764)         6 min
    3423      3,423        90.31 ± 0.17 % (row fashion_3423)         6 min
    7669      7,669        90.18 ± 0.32 % (row fashion_7669)         5 min
    2749      2,749        90.55 ± 0.21 % (row fashion_2749)        14 min with total_epochs=30
    1848      1,848        see experiments/records/history.md       25 min
    1842      1,842        89.80 ± 0.34 % (row fashion_1842)         8 min
                           90.11 ± 0.19 % (row fashion_1842_30)     15 min with total_epochs=30

The first three are published networks with our recipe; configs/gallery.py has the published
recipes. `2764` is the default. Its published count is 2,764; here it has 2,757. Rows are in
experiments/reproduce; experiments/records/history.md describes the tuning.

Command: python -m scs_jax.main --config=configs/fashion_mnist.py:2764 --workdir=/tmp/fashion_mnist
Source:  github.com/brohrer/scs_torch_gallery.
"""

from ml_collections import ConfigDict

from scs_jax.errors import ArgumentError
from scs_jax.train.config import default

ABS, HEAD = {'kind': 'abs'}, {'kind': 'head'}
POOL, LAST_POOL = ((ABS, {'kind': 'pool', 'window': window}) for window in (2, 4))
scs = lambda n, window, **settings: {'kind': 'scs', 'features': n, 'window': window, **settings}


def pairs(widths: tuple[int, ...], **depthwise: object) -> list[tuple[dict, ...]]:
  """Returns a depthwise and a pointwise layer for each width."""
  layer = {'kind': 'depthwise', **depthwise}
  return [(layer, {'kind': 'pointwise', 'features': width}) for width in widths]


def separable(first: int, *widths: int, padding: str = 'VALID') -> tuple[dict, ...]:
  """Returns a 3×3 layer and three separable pairs, each with a pool."""
  one, two, three = pairs(widths, window=3, padding=1)
  layer = scs(first, 3, padding=padding)
  return (layer, *POOL, *one, *POOL, *two, *POOL, *three, *LAST_POOL, HEAD)


def deep(first: int, *widths: int) -> tuple[dict, ...]:
  """Returns a 3×3 layer, three pairs, and a depthwise layer that compares the whole last map."""
  one, two, three = pairs(widths, p_init=1.0)
  whole_map = {'kind': 'depthwise', 'window': 4, 'padding': 'VALID', 'p_init': 1.0}
  layer = scs(first, 3, q_init=2.0)
  return (layer, *POOL, *one, ABS, *two, *POOL, *three, *POOL, whole_map, HEAD)


VALID, PADDED = (scs(12, 5, padding=padding) for padding in ('VALID', 1))
NETWORKS = {
  '2764': separable(32, 20, 20, 20),
  '3423': separable(26, 26, 26, 26),
  '7669': (VALID, *POOL, PADDED, *POOL, PADDED, *LAST_POOL, HEAD),
  '2749': separable(9, 24, 28, 28, padding='SAME'),
  '1848': separable(9, 19, 22, 22, padding='SAME'),
  '1842': deep(9, 17, 18, 20),
}


def get_config(name: str = '2764') -> ConfigDict:
  """Returns the config of a network."""
  if name not in NETWORKS:
    raise ArgumentError(f'fashion_mnist.py has no {name!r}; it has {", ".join(NETWORKS)}')
  config = default('scs_net')
  config.data.name = 'fashion_mnist'
  config.augment.flip = True
  config.model.update(stack=NETWORKS[name], q_init=0.1)
  config.batch_size = 32
  config.total_epochs = 60.0 if name == '1848' else 15.0
  config.ema_decay = 0.999
  if name in ('1848', '1842'):
    config.model.p_mode = 'shared'
  return config
