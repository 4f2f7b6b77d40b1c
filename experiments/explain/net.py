"""The network that is explained: it takes images of any size, so that it can look at a grid."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.models.parts import PLAIN, LayerOptions, Layers, global_mean


class PooledNet(nnx.Module):
  """Layers with pools between them, the mean magnitude of the last map, and a linear head.

  The magnitude comes before the mean because a mean cancels features that have both signs. In the
  twin it changes nothing, since ReLU comes before it.

  Args:
    input_shape: `(height, width, channels)` of a training image; only the channels matter.
    num_classes: outputs of the head.
    widths: features of each layer. A pool of 2 follows each layer but the last.
    windows: side of each layer's window.
    options: what all layers share, see `scs_jax.models.parts.LayerOptions`.
    rngs: streams of random keys; 'params' is used.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    widths: Sequence[int] = (16, 24, 32),
    windows: Sequence[int] = (5, 3, 3),
    options: LayerOptions = PLAIN,
    rngs: nnx.Rngs,
  ):
    make = Layers(options, len(input_shape) - 1, rngs)
    sizes = zip((input_shape[-1], *widths), widths, windows, strict=False)
    self.layers = nnx.List([make.layer(*size) for size in sizes])
    self.pool = make.pool(2)
    self.head = make.head(widths[-1], num_classes)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, height, width, channels]`."""
    for i, layer in enumerate(self.layers):
      x = layer(self.pool(x) if i else x)
    return self.head(global_mean(jnp.abs(x)))
