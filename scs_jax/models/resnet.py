"""A residual network of SCS layers, and its convolutional twin: ResNet-18 for small images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.layers import nnx as layers
from scs_jax.models.conv_block import ConvBlock, run
from scs_jax.spelling import check_known


class ResidualBlock(nnx.Module):
  """Two layers beside a shortcut, which is a layer of window 1 where the shape changes."""

  def __init__(self, make, in_features: int, features: int, strides: int):
    self.first = make(in_features, features, 3, strides)
    self.second = make(features, features, 3, 1, last=True)
    changes = strides > 1 or in_features != features
    self.shortcut = make(in_features, features, 1, strides, last=True) if changes else None

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns `[batch, *spatial', features]`; the twin's sum goes through a ReLU."""
    y = run(self.second, run(self.first, x, train), train)
    y = y + (x if self.shortcut is None else run(self.shortcut, x, train))
    return nnx.relu(y) if isinstance(self.first, ConvBlock) else y


class ResNet(nnx.Module):
  """ResNet with a 3 x 3 stem and no pool after it, as it is used for images of 32 pixels.

  With `variant='scs'` every convolution + BatchNorm (+ ReLU) is one SCS layer, and nothing follows
  the sum. A first version: the layers learn p and one q each and the sums are left as they are.

  References:
    He et al., 2015: Deep Residual Learning for Image Recognition, sections 3.4 and 4.2.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    blocks: Sequence[int] = (2, 2, 2, 2),
    variant: str = 'scs',
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      widths: features of each stage; all but the first stage halve the image.
      blocks: residual blocks in each stage.
      variant: 'scs' or 'conv'.
      dtype: of the products and activations.
      param_dtype: of the kernels.
      rngs: streams of random keys; 'params' is used.

    Raises:
      ValueError: for an unknown variant, or widths and blocks of different lengths.
    """
    check_known('variant', variant, ('scs', 'conv'))
    if len(widths) != len(blocks):
      raise ValueError(f'widths {widths} and blocks {blocks} must have one entry for each stage')
    rank, types = len(input_shape) - 1, {'dtype': dtype, 'param_dtype': param_dtype, 'rngs': rngs}

    def make(in_features, features, window, strides, last=False):
      arguments = (in_features, features, (window,) * rank, strides)
      if variant == 'scs':
        return layers.SharpenedCosineSimilarity(*arguments, **types)
      return ConvBlock(*arguments, activation=None if last else nnx.relu, **types)

    self.stem = make(input_shape[-1], widths[0], 3, 1)
    self.blocks = nnx.List([])
    features = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
      for i in range(count):
        strides = 2 if stage and not i else 1
        self.blocks.append(ResidualBlock(make, features, width, strides))
        features = width
    self.head = nnx.Linear(features, num_classes, **types)

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    x = run(self.stem, x, train)
    for block in self.blocks:
      x = block(x, train)
    return self.head(x.mean(range(1, x.ndim - 1)))
