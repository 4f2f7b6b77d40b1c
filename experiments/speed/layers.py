"""The layers that are timed, and the formulations of each."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import scs_jax
from scs_jax.models.parts import ConvBlock
from scs_jax.ops.convolution import LAYOUTS


@dataclasses.dataclass(frozen=True)
class Shape:
  """One layer on one batch."""

  name: str
  batch: int
  spatial: tuple[int, ...]
  features: tuple[int, int]  # in, out
  window: int = 3
  strides: int = 1
  groups: int = 1

  @property
  def image(self) -> tuple[int, ...]:
    """`[batch, *spatial, in]`."""
    return (self.batch, *self.spatial, self.features[0])

  @property
  def layer(self) -> dict:
    """The arguments that a convolution and an SCS layer share."""
    return {
      'in_features': self.features[0],
      'out_features': self.features[1],
      'kernel_size': (self.window,) * len(self.spatial),
      'strides': self.strides,
      'feature_group_count': self.groups,
    }


SHAPES = (
  Shape('32x32 3→32', 128, (32, 32), (3, 32)),
  Shape('16x16 32→64', 128, (16, 16), (32, 64)),
  Shape('8x8 64→128', 128, (8, 8), (64, 128)),
  Shape('56x56 64→64', 16, (56, 56), (64, 64)),
  Shape('14x14 256→256', 32, (14, 14), (256, 256)),
  Shape('28x28 1→16', 128, (28, 28), (1, 16)),
  Shape('depthwise 14x14 64', 128, (14, 14), (64, 64), groups=64),
  Shape('pointwise 14x14 128→128', 128, (14, 14), (128, 128), window=1),
  Shape('5x5 window 16x16 32→64', 128, (16, 16), (32, 64), window=5),
  Shape('stride 2 32x32 32→64', 128, (32, 32), (32, 64), strides=2),
  Shape('1-D 1024 16→32', 64, (1024,), (16, 32)),
  Shape('3-D 16x16x16 8→16', 16, (16, 16, 16), (8, 16)),
)


class Block(ConvBlock):
  """What an SCS layer stands for: convolution, BatchNorm, ReLU."""

  def __call__(self, x):
    return super().__call__(x, train=True)


class OnesKernel(nnx.Module):
  """SCS as the PyTorch versions write it: the norm is a convolution of squares with ones."""

  def __init__(self, *, rngs: nnx.Rngs, dtype=None, **layer):
    conv = nnx.Conv(**layer, use_bias=False, rngs=rngs)
    self.kernel, self.layer, self.dtype = conv.kernel, layer, dtype
    self.p = nnx.Param(jnp.full(layer['out_features'], 2.0))
    self.log_q = nnx.Param(jnp.log(1e-3))

  def __call__(self, x):
    kernel, groups = self.kernel[...], self.layer['feature_group_count']
    ones = jnp.ones((*kernel.shape[:-1], groups), kernel.dtype)
    norm = jnp.sqrt(self.slide(jnp.square(x), ones) + 1e-6) + jnp.exp(self.log_q[...])
    if groups > 1:
      norm = jnp.repeat(norm, kernel.shape[-1] // groups, axis=-1)
    length = jnp.sqrt(jnp.square(kernel).sum(range(kernel.ndim - 1)))
    c = self.slide(x, kernel) / (norm * length)
    return jnp.sign(c) * (jnp.abs(c) + 1e-6) ** self.p[...]

  def slide(self, x, kernel):
    rank = kernel.ndim - 2
    return lax.conv_general_dilated(
      x.astype(self.dtype or x.dtype),
      kernel.astype(self.dtype or x.dtype),
      (self.layer['strides'],) * rank,
      'SAME',
      feature_group_count=self.layer['feature_group_count'],
      dimension_numbers=LAYOUTS[rank],
      preferred_element_type=jnp.float32,
    )


def formulations(shape: Shape, dtype=None) -> dict[str, nnx.Module]:
  """Returns the rows of the table for one shape, by name."""
  scs = scs_jax.nnx.SharpenedCosineSimilarity
  make = lambda kind, **more: kind(**shape.layer, dtype=dtype, rngs=nnx.Rngs(0), **more)
  return {
    'convolution': make(nnx.Conv, use_bias=False),
    'convolution + BatchNorm + ReLU': make(Block, param_dtype=jnp.float32),
    'SCS, auto': make(scs),
    'SCS, convolution': make(scs, method='convolution'),
    'SCS, shifts': make(scs, method='shifts'),
    'SCS, patches': make(scs, method='patches'),
    'SCS, kernel of ones (peers)': make(OnesKernel),
  }


def forward(module: nnx.Module):
  """Returns `(params, f)`: `f(params, x)` is the output and the new statistics, if it has any."""
  graph, params, rest = nnx.split(module, nnx.Param, ...)
  params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

  def apply(params, x):
    merged = nnx.merge(graph, params, rest)
    return merged(x), nnx.to_pure_dict(nnx.split(merged, nnx.Param, ...)[2])

  return params, apply


def value_and_gradients(apply):
  """Returns a function that gives the value and the gradients of parameters and input.

  The cotangent is an input: with a constant one XLA would fold half of the backward pass away.
  """

  def run(params, x, cotangent):
    y, pullback, statistics = jax.vjp(apply, params, x, has_aux=True)
    return y, statistics, pullback(cotangent)

  return run
