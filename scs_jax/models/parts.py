"""An SCS layer or the block it stands for: what gives every architecture its convolutional twin."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.layers import nnx as layers
from scs_jax.errors import check_known

VARIANTS = ('scs', 'conv')


class ConvBlock(nnx.Module):
  """Convolution without a bias, BatchNorm, and an activation (None: nothing)."""

  def __init__(
    self,
    *args,
    activation: Callable[[jax.Array], jax.Array] | None = nnx.relu,
    dtype,
    param_dtype,
    rngs: nnx.Rngs,
    **kwargs,
  ):
    types = {'dtype': dtype, 'param_dtype': param_dtype, 'rngs': rngs}
    self.conv = nnx.Conv(*args, use_bias=False, **kwargs, **types)
    self.norm = nnx.BatchNorm(self.conv.kernel_shape[-1], **types)
    self.activation = activation

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns `[batch, *spatial', out]`; `train` takes the statistics from the batch."""
    y = self.norm(self.conv(x), use_running_average=not train)
    return y if self.activation is None else self.activation(y)


def run(layer: Callable, x: jax.Array, train: bool) -> jax.Array:
  """Applies a layer of a network or of its twin: only a `ConvBlock` knows training apart."""
  return layer(x, train) if isinstance(layer, ConvBlock) else layer(x)


class Maker:
  """Makes the layers of an architecture, all alike: SCS, or convolution + BatchNorm + ReLU.

  SCS layers have an output of unit size, so that neither the signal nor its gradient fades on the
  way through a deep network, and start little sharpened: each layer multiplies the gradient by
  `p / sqrt(2 p - 1)` (`experiments/depth/`).

  Attributes:
    variant: 'scs' or 'conv'.
    rank: spatial dimensions of the images.
    types: `dtype`, `param_dtype` and `rngs`, for every layer.
  """

  def __init__(
    self,
    variant: str,
    rank: int,
    *,
    output: str,
    p_init: float,
    q_init: float,
    dtype: jnp.dtype | None,
    param_dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ):
    check_known('variant', variant, VARIANTS)
    self.variant, self.rank = variant, rank
    self.types = {'dtype': dtype, 'param_dtype': param_dtype, 'rngs': rngs}
    self._similarity = {'output': output, 'p_init': p_init, 'q_init': q_init}

  def layer(
    self,
    in_features: int,
    features: int,
    window: int,
    strides: int = 1,
    *,
    groups: int = 1,
    padding: str | int = 'SAME',
    activation: Callable[[jax.Array], jax.Array] | None = nnx.relu,
  ) -> nnx.Module:
    """Returns an SCS layer or its twin; the activation is the twin's, SCS needs none."""
    size = (window,) * self.rank
    arguments = {'padding': padding, 'feature_group_count': groups, **self.types}
    if self.variant == 'scs':
      return layers.SharpenedCosineSimilarity(
        in_features, features, size, strides, **arguments, **self._similarity
      )
    return ConvBlock(in_features, features, size, strides, activation=activation, **arguments)

  def pool(self, window: int, strides: int | None = None) -> Callable[[jax.Array], jax.Array]:
    """Returns an absolute max pool or its twin, a max pool; sizes are rounded up."""
    step = window if strides is None else strides
    return pool(self.variant, (window,) * self.rank, (step,) * self.rank, 'SAME')


def pool(variant, window_shape, strides, padding) -> Callable[[jax.Array], jax.Array]:
  """Returns an absolute max pool for SCS, a max pool for its twin."""
  if variant == 'scs':
    return layers.AbsMaxPool(window_shape, strides, padding)
  return functools.partial(
    nnx.max_pool, window_shape=window_shape, strides=strides, padding=padding
  )


def sum_of_paths(variant: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns `x + y`, where paths of a network meet; the twin's sum goes through a ReLU."""
  return x + y if variant == 'scs' else nnx.relu(x + y)


def global_mean(x: jax.Array) -> jax.Array:
  """Returns the mean over all positions: `[batch, *spatial, features]` to `[batch, features]`."""
  return x.mean(range(1, x.ndim - 1))
