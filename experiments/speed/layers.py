"""The layers that are measured, and the formulations of each."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import scs_jax
from scs_jax.models.parts import ConvBlock

# The names of the formulations that tables and pictures compare.
CONVOLUTION = 'convolution'
BLOCK = 'convolution + BatchNorm + ReLU'
SCS = 'SCS, auto'
BY_CONVOLUTION = 'SCS, convolution'
BY_PATCHES = 'SCS, patches'
ONES_KERNEL = 'SCS, kernel of ones (peers)'
TORCH_BLOCK = f'torch: {BLOCK}'
TORCH_SCS = 'torch: SCS (peers)'


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


class OnesKernel(nnx.Module):
  """SCS as PyTorch implementations write it: the norm is a convolution of squares with ones."""

  def __init__(self, *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike | None = None, **layer):
    conv = nnx.Conv(**layer, use_bias=False, rngs=rngs)
    self.kernel, self.layer, self.dtype = conv.kernel, layer, dtype
    self.p = nnx.Param(jnp.full(layer['out_features'], 2.0))
    self.log_q = nnx.Param(jnp.log(1e-3))

  def __call__(self, x: jax.Array) -> jax.Array:
    kernel, groups = self.kernel[...], self.layer['feature_group_count']
    ones = jnp.ones((*kernel.shape[:-1], groups), kernel.dtype)
    norm = jnp.sqrt(self.slide(jnp.square(x), ones) + 1e-6) + jnp.exp(self.log_q[...])
    if groups > 1:
      norm = jnp.repeat(norm, kernel.shape[-1] // groups, axis=-1)
    length = jnp.sqrt(jnp.square(kernel).sum(range(kernel.ndim - 1)))
    c = self.slide(x, kernel) / (norm * length)
    return jnp.sign(c) * (jnp.abs(c) + 1e-6) ** self.p[...]

  def slide(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
    rank = kernel.ndim - 2
    spatial = 'DHW'[3 - rank :]
    return lax.conv_general_dilated(
      x.astype(self.dtype or x.dtype),
      kernel.astype(self.dtype or x.dtype),
      (self.layer['strides'],) * rank,
      'SAME',
      feature_group_count=self.layer['feature_group_count'],
      dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
      preferred_element_type=jnp.float32,
    )


def formulations(shape: Shape, dtype: jax.typing.DTypeLike | None = None) -> dict[str, nnx.Module]:
  """Returns every formulation of one layer, by name."""
  scs = scs_jax.nnx.SharpenedCosineSimilarity
  make = lambda kind, **more: kind(**shape.layer, dtype=dtype, rngs=nnx.Rngs(0), **more)
  return {
    CONVOLUTION: make(nnx.Conv, use_bias=False),
    BLOCK: make(ConvBlock, param_dtype=jnp.float32),
    SCS: make(scs),
    BY_CONVOLUTION: make(scs, method='convolution'),
    'SCS, shifts': make(scs, method='shifts'),
    BY_PATCHES: make(scs, method='patches'),
    ONES_KERNEL: make(OnesKernel),
  }


def forward(module: nnx.Module) -> tuple[Any, Callable]:
  """Returns `(params, f)`: `f(params, x)` is the output, and the new statistics if any."""
  graph, params, rest = _split(module)

  def apply(params, x):
    merged = nnx.merge(graph, params, rest)
    return merged(x), _split(merged)[2]

  return params, apply


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, Any, Any]:
  """Returns the graph, the parameters and the other arrays."""
  graph, params, rest = nnx.split(module, nnx.Param, ...)
  return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def value_and_gradients(apply: Callable) -> Callable:
  """Returns a function that computes the value and the gradients of parameters and input.

  The cotangent is an input. XLA would fold half of the backward pass away if it were a constant.
  """

  def run(params, x, cotangent):
    y, pullback, statistics = jax.vjp(apply, params, x, has_aux=True)
    return y, statistics, pullback(cotangent)

  return run
