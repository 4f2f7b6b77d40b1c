"""DenseNet-BC of SCS layers, and its convolutional twin."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.models.parts import DEEP, LayerOptions, Layers, global_mean


class DenseLayer(nnx.Module):
  """A bottleneck and a 3 x 3 layer; its features are concatenated to its input."""

  def __init__(self, make: Layers, in_features: int, growth: int):
    self.bottleneck = make.layer(in_features, 4 * growth, 1)
    self.layer = make.layer(4 * growth, growth, 3)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, *spatial, in_features + growth]`."""
    return jnp.concatenate([x, self.layer(self.bottleneck(x))], -1)


class DenseNet(nnx.Module):
  """DenseNet-BC: in each block every layer sees all layers before it; transitions halve between.

  Depth 100 and growth 12 is 16 layers in each of three blocks. The twin normalises and activates
  after each convolution; the original does so before. The shapes are the same.

  References:
    Huang et al., 2016: Densely Connected Convolutional Networks.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    layers: Sequence[int] = (16, 16, 16),
    growth: int = 12,
    options: LayerOptions = DEEP,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      layers: dense layers in each block.
      growth: features that a dense layer adds; the stem has twice as many.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.
    """
    make = Layers(options, len(input_shape) - 1, rngs)
    features = 2 * growth
    self.stem = make.layer(input_shape[-1], features, 3)
    self.blocks, self.transitions = nnx.List([]), nnx.List([])
    for block, count in enumerate(layers):
      if block:
        self.transitions.append(make.layer(features, features // 2, 1))
        features //= 2
      made = [DenseLayer(make, features + i * growth, growth) for i in range(count)]
      self.blocks.append(nnx.List(made))
      features += count * growth
    self.pool = make.pool(2)
    make.finish()
    self.head = make.head(features, num_classes)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    return self.head(self.features(x))

  def features(self, x: jax.Array) -> jax.Array:
    """Returns what the head sees, `[batch, features]`, for images `[batch, *spatial, channels]`."""
    x = self.stem(x)
    for i, block in enumerate(self.blocks):
      if i:
        x = self.pool(self.transitions[i - 1](x))
      for layer in block:
        x = layer(x)
    return global_mean(x)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.stem
