"""A compact convolutional transformer, with attention by similarity, and its softmax twin."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.errors import ArgumentError
from scs_jax.layers import parameters
from scs_jax.models.parts import DEEP, LayerOptions, Layers
from scs_jax.ops import sharpened_cosine_attention

P_INIT = 2.0  # of the attention


class Attention(nnx.Module):
  """Attention over tokens: by SCS, or by the softmax of scaled dot products in the twin.

  Each head has its own exponent. With `attend=False` every token attends to itself only.
  """

  def __init__(self, make: Layers, width: int, heads: int, attend: bool):
    self.value, self.out = make.dense(width, width), make.dense(width, width)
    if attend:
      self.query, self.key = make.dense(width, width), make.dense(width, width)
      if make.options.variant == 'scs':
        self.raw_p = nnx.Param(parameters.raw(jnp.full((heads,), P_INIT, jnp.float32)))
    self.variant, self.heads, self.attend = make.options.variant, heads, attend

  @property
  def p(self) -> jax.Array:
    """The exponents, `[heads]`; only where tokens attend by SCS."""
    return parameters.positive(self.raw_p[...])

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, tokens, width]`."""
    if not self.attend:
      return self.out(self.value(x))
    split = lambda x: x.reshape(*x.shape[:-1], self.heads, -1)
    query, key, value = (split(f(x)) for f in (self.query, self.key, self.value))
    if self.variant == 'scs':
      y = sharpened_cosine_attention(query, key, value, self.p)
    else:
      y = jax.nn.dot_product_attention(query, key, value)
    return self.out(y.reshape(x.shape))


class Level(nnx.Module):
  """Attention, then two layers that see one token each; each half has a shortcut around it.

  The twin normalises before each half and has a GELU between the two layers. SCS needs neither.
  """

  def __init__(self, make: Layers, width: int, heads: int, hidden: int, attend: bool):
    self.norm, self.attention = make.norm(width), Attention(make, width, heads, attend)
    self.second_norm = make.norm(width)
    self.first, self.second = make.dense(width, hidden), make.dense(hidden, width)
    self.activation = nnx.gelu if make.options.variant == 'conv' else None

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, tokens, width]`."""
    x = x + self.attention(x if self.norm is None else self.norm(x))
    y = self.first(x if self.second_norm is None else self.second_norm(x))
    return x + self.second(y if self.activation is None else self.activation(y))


class CompactTransformer(nnx.Module):
  """CCT-2/3x2: two SCS layers turn 32 x 32 pixels into 8 x 8 tokens; two transformer levels follow.

  The SCS variant has neither softmax in its attention (`scs_jax.ops.attention`), nor normalisation,
  nor activation. In both variants a softmax weights the sum over tokens.

  References:
    Hassani et al., 2021: Escaping the Big Data Paradigm with Compact Transformers.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 2,
    heads: int = 2,
    tokeniser: Sequence[int] = (64,),
    attend: bool = True,
    options: LayerOptions = DEEP,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      width: features of a token.
      depth: transformer levels.
      heads: of the attention; each gets an equal share of the features.
      tokeniser: features of the 3 x 3 layers before the one that makes tokens; each has a pool.
      attend: False switches attention off: every token sees itself only.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.

    Raises:
      ArgumentError: if the heads do not divide the width.
    """
    if heads < 1 or width % heads:
      raise ArgumentError(f'heads {heads} must divide width {width}')
    make = Layers(options, len(input_shape) - 1, rngs)
    features, self.tokeniser = input_shape[-1], nnx.List([])
    for out in (*tokeniser, width):
      self.tokeniser.append(make.layer(features, out, 3))
      features = out
    self.pool = make.pool(3, 2)
    tokens = math.prod(-(-size // 2 ** len(self.tokeniser)) for size in input_shape[:-1])
    position = 0.2 * jax.random.normal(rngs.params(), (tokens, width), options.param_dtype)
    self.position = nnx.Param(position)
    of_tokens = make.of_rank(1)
    self.levels = nnx.List([Level(of_tokens, width, heads, width, attend) for _ in range(depth)])
    self.norm = make.norm(width)
    make.finish()
    self.weight = make.head(width, 1)
    self.head = make.head(width, num_classes)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    return self.head(self.features(x))

  def features(self, x: jax.Array) -> jax.Array:
    """Returns what the head sees, `[batch, features]`, for images `[batch, *spatial, channels]`."""
    for layer in self.tokeniser:
      x = self.pool(layer(x))
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    x = x + self.position[...].astype(x.dtype)[None]
    for level in self.levels:
      x = level(x)
    if self.norm is not None:
      x = self.norm(x)
    weights = nnx.softmax(self.weight(x), axis=1)
    return (weights * x).sum(1)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.tokeniser[0]
