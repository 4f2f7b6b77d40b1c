"""Convolution, BatchNorm, activation: what one SCS layer stands for in a convolutional twin."""

from collections.abc import Callable

import jax
from flax import nnx


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
