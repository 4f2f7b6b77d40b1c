"""DenseNet-BC of SCS layers, and its convolutional twin."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.models.parts import Maker, global_mean, run


class DenseLayer(nnx.Module):
  """A bottleneck and a 3 x 3 layer, whose features are added to those that came in."""

  def __init__(self, make: Maker, in_features: int, growth: int):
    self.bottleneck = make.layer(in_features, 4 * growth, 1)
    self.layer = make.layer(4 * growth, growth, 3)

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns `[batch, *spatial, in_features + growth]`."""
    return jnp.concatenate([x, run(self.layer, run(self.bottleneck, x, train), train)], -1)


class DenseNet(nnx.Module):
  """DenseNet-BC: blocks in which every layer sees all before it, with a transition between.

  Depth 100 and growth 12 is 16 layers in each of three blocks. The twin normalises and activates
  after each convolution, where the original does it before; the shapes are the same.

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
    variant: str = 'scs',
    output: str = 'unit',
    p_init: float = 1.25,
    q_init: float = 1e-3,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      layers: dense layers in each block.
      growth: features that a dense layer adds; the stem has twice as many.
      variant: 'scs' or 'conv'.
      output: size of the SCS layers' output, see `scs_jax.nnx.SharpenedCosineSimilarity`.
      p_init: initial exponent.
      q_init: initial q.
      dtype: of the products and activations.
      param_dtype: of the kernels.
      rngs: streams of random keys; 'params' is used.
    """
    make = Maker(
      variant, len(input_shape) - 1, output=output, p_init=p_init, q_init=q_init, dtype=dtype,
      param_dtype=param_dtype, rngs=rngs,
    )  # fmt: skip
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
    self.head = nnx.Linear(features, num_classes, **make.types)

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    x = run(self.stem, x, train)
    for i, block in enumerate(self.blocks):
      if i:
        x = self.pool(run(self.transitions[i - 1], x, train))
      for layer in block:
        x = layer(x, train)
    return self.head(global_mean(x))

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.stem
