"""Residual networks of SCS layers, and their convolutional twins."""

import math
from collections.abc import Sequence

import jax
from flax import nnx

from scs_jax.errors import ArgumentError, check_known
from scs_jax.models.parts import DEEP, LayerOptions, Layers, global_mean, sum_of_paths

DOWNSAMPLING = ('stride', 'pool')
HEADS = ('mean', 'flat')
BLOCKS = {'basic': ((3, 1), (3, 1)), 'bottleneck': ((1, 1), (3, 1), (1, 4))}  # window, times width


class ResidualBlock(nnx.Module):
  """Two or three layers with a shortcut, which is a layer of window 1 where the shape changes.

  The first 3 x 3 layer has the strides, or a pool after it; so does the shortcut.
  """

  def __init__(
    self, make: Layers, kind: str, in_features: int, width: int, strides: int, downsample: str
  ):
    shapes = BLOCKS[kind]
    self.reducing = next(i for i, (window, _) in enumerate(shapes) if window > 1)
    changes = strides > 1 or in_features != shapes[-1][1] * width
    pooled = downsample == 'pool' and strides > 1
    self.pool = make.pool(strides) if pooled else None
    strides = 1 if pooled else strides
    self.layers = nnx.List([])
    features = in_features
    for i, (window, times) in enumerate(shapes):
      activation = nnx.relu if i < len(shapes) - 1 else None
      step = strides if i == self.reducing else 1
      self.layers.append(make.layer(features, times * width, window, step, activation=activation))
      features = times * width
    self.shortcut = (
      make.layer(in_features, features, 1, strides, activation=None) if changes else None
    )
    self.variant, self.features = make.options.variant, features

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, *spatial', features]`."""
    y = x
    for i, layer in enumerate(self.layers):
      y = layer(y)
      if self.pool is not None and i == self.reducing:
        y = self.pool(y)
    if self.shortcut is not None:
      x = self.shortcut(x)
    if self.pool is not None:
      x = self.pool(x)
    return sum_of_paths(self.variant, x, y)


class ResNet(nnx.Module):
  """ResNet; with `variant='scs'` each convolution + BatchNorm (+ ReLU) is one SCS layer.

  Nothing follows the sums. Each SCS layer divides by the norm of its input, so a block begins with
  its own normalisation, and what it adds has unit size.

  ResNet-20 and -56, for 32 pixels, have widths 16, 32, 64 and 3 or 9 blocks each. ResNet-18 and
  -50, for 224 pixels, have widths 64, 128, 256, 512, the large stem, and blocks 2, 2, 2, 2 or, as
  bottlenecks, 3, 4, 6, 3.

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
    block: str = 'basic',
    large_stem: bool = False,
    downsample: str = 'stride',
    head: str = 'mean',
    options: LayerOptions = DEEP,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      widths: features of each stage (a bottleneck has four times as many); all but the first stage
        halve the image.
      blocks: residual blocks in each stage.
      block: 'basic', two layers 3 x 3, or 'bottleneck', 1 x 1, 3 x 3 and 1 x 1.
      large_stem: 7 x 7 with strides 2 and a pool of 3 with strides 2, instead of 3 x 3.
      downsample: 'stride', as in the paper, or 'pool': an absolute max pool after a layer at full
        size (a max pool in the twin).
      head: 'mean' averages the last map, as in the paper. 'flat' pools it by 2 instead, and the
        classes see every position: a mean cancels features that have both signs.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.

    Raises:
      ArgumentError: for an unknown block, downsample, head or variant, or if widths and blocks have
        different lengths.
    """
    check_known('block', block, BLOCKS)
    check_known('downsample', downsample, DOWNSAMPLING)
    check_known('head', head, HEADS)
    if not widths or len(widths) != len(blocks):
      raise ArgumentError(f'widths {widths} and blocks {blocks} must have one entry for each stage')
    make = Layers(options, len(input_shape) - 1, rngs)
    features = widths[0]
    self.stem = make.layer(input_shape[-1], features, *((7, 2) if large_stem else (3, 1)))
    self.pool = make.pool(3, 2) if large_stem else None
    self.blocks = nnx.List([])
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
      for i in range(count):
        strides = 2 if stage and not i else 1
        self.blocks.append(ResidualBlock(make, block, features, width, strides, downsample))
        features = self.blocks[-1].features
    self.last_pool = make.pool(2) if head == 'flat' else None
    if head == 'flat':
      halvings = len(widths) + 2 * large_stem  # stem and pool, stages but the first, this one
      features *= math.prod(-(-size // 2**halvings) for size in input_shape[:-1])
    make.finish()
    self.head = make.head(features, num_classes)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    return self.head(self.features(x))

  def features(self, x: jax.Array) -> jax.Array:
    """Returns what the head sees, `[batch, features]`, for images `[batch, *spatial, channels]`."""
    x = self.stem(x)
    if self.pool is not None:
      x = self.pool(x)
    for block in self.blocks:
      x = block(x)
    if self.last_pool is None:
      return global_mean(x)
    x = self.last_pool(x)
    return x.reshape(x.shape[0], -1)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.stem
