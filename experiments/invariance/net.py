"""The twin that the package does not have: convolution with a bias and ReLU, no BatchNorm."""

import math
from collections.abc import Mapping, Sequence

import jax
from flax import nnx


class ConvReluNet(nnx.Module):
  """A stack as of `scs_jax.models.scs_net.ScsNet`, of convolutions with biases, ReLU and max pools.

  Args:
    input_shape: `(height, width, channels)`.
    num_classes: number of outputs.
    stack: entries of kind 'scs' (`features`, `window`), 'pool' (`window`) and 'head'.
    rngs: streams of random keys; 'params' is used.
  """

  def __init__(
    self,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    stack: Sequence[Mapping] = (),
    rngs: nnx.Rngs,
  ):
    *spatial, features = input_shape
    convolutions, self.pools = [], []
    for entry in stack:
      if entry['kind'] == 'scs':
        window = (entry['window'],) * 2
        convolutions.append(nnx.Conv(features, entry['features'], window, rngs=rngs))
        features = entry['features']
        self.pools.append(1)
      elif entry['kind'] == 'pool':
        size = entry.get('window', 2)
        spatial = [-(-side // size) for side in spatial]
        self.pools[-1] *= size
    self.convolutions, self.pools = nnx.List(convolutions), tuple(self.pools)
    self.head = nnx.Linear(features * math.prod(spatial), num_classes, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, height, width, channels]`."""
    for convolution, size in zip(self.convolutions, self.pools, strict=True):
      x = nnx.max_pool(nnx.relu(convolution(x)), (size, size), (size, size), 'SAME')
    return self.head(x.reshape(len(x), -1))
