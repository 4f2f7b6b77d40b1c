"""The network on which the claims are tested: one argument for each claim about SCS."""

import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import scs_jax

WIDTHS = (10, 12, 12, 12)


class ClaimNet(nnx.Module):
  """Four layers (5×5 with stride 2, then 3×3), three pools between them, and a linear head.

  Args:
    input_shape: `(height, width, channels)`.
    num_classes: number of outputs.
    layer: 'scs'; 'conv' (with a bias, unless BatchNorm follows); 'soft_cosine'; or 'inside_root',
      which adds q to the squared norm of the patch, under the root, and nothing to the kernel's
      norm.
    activation: 'none', 'relu' or 'abs', after every layer.
    norm: whether BatchNorm comes between layer and activation. It obeys `train()` and `eval()`.
    pool: 'abs_max', 'max', 'average', or 'stride', which keeps one value of each window.
    connection: of the layers after the first: 'dense', 'separable' (depthwise, then pointwise) or
      'grouped' (two groups).
    input_scale: factor on the image, whose values are from 0 to 1.
    input_shift: added to the scaled image.
    p_mode: of the SCS layers, see `scs_jax.nnx.SharpenedCosineSimilarity`, like the next five.
    p_init: initial p.
    q_mode: how q is learned.
    q_init: initial q.
    kernel_q: q of the kernel's norm.
    scale_init: initial output scale; None means no scale.
    rngs: streams of random keys; 'params' is used.
  """

  def __init__(
    self,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    layer: str = 'scs',
    activation: str = 'none',
    norm: bool = False,
    pool: str = 'abs_max',
    connection: str = 'dense',
    input_scale: float = 1.0,
    input_shift: float = 0.0,
    p_mode: str = 'per_kernel',
    p_init: float = 2.0,
    q_mode: str = 'shared',
    q_init: float = 0.1,
    kernel_q: float | None = None,
    scale_init: float | None = None,
    rngs: nnx.Rngs,
  ):
    similarity: dict[str, Any] = {
      'p_mode': p_mode,
      'p_init': p_init,
      'q_mode': q_mode,
      'q_init': q_init,
      'kernel_q': kernel_q,
      'scale_init': scale_init,
    }
    self.input_scale, self.input_shift, self.pool = input_scale, input_shift, pool
    self.activation = activation
    features, levels, norms = input_shape[-1], [], []
    for i, width in enumerate(WIDTHS):
      first = i == 0
      shapes = [(width, 5 if first else 3, 1)]
      if connection == 'separable' and not first:
        shapes = [(features, 3, features), (width, 1, 1)]
      if connection == 'grouped' and not first:
        shapes = [(width, 3, 2)]
      for out, window, groups in shapes:
        arguments: dict[str, Any] = {
          'kernel_size': (window, window),
          'strides': 2 if first else 1,
          'feature_group_count': groups,
          'rngs': rngs,
        }
        if layer == 'conv':
          levels.append(nnx.Conv(features, out, use_bias=not norm, **arguments))
        else:
          levels.append(_KINDS[layer](features, out, **arguments, **similarity))
        norms.append(nnx.BatchNorm(out, rngs=rngs) if norm else None)
        features = out
      if not first:
        levels.append(None)  # a pool
        norms.append(None)
    self.levels, self.norms = nnx.List(levels), nnx.List(norms)
    self.head = nnx.Linear(features, num_classes, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, height, width, channels]`."""
    x = x * self.input_scale + self.input_shift
    for level, norm in zip(self.levels, self.norms, strict=True):
      if level is None:
        x = _pool(self.pool, x, 2)
        continue
      x = level(x)
      if norm is not None:
        x = norm(x)
      x = {'none': lambda x: x, 'relu': nnx.relu, 'abs': jnp.abs}[self.activation](x)
    return self.head(_pool(self.pool, x, x.shape[1])[:, 0, 0])


def _pool(kind: str, x: jax.Array, size: int) -> jax.Array:
  window: dict[str, Any] = {
    'window_shape': (size, size),
    'strides': (size, size),
    'padding': 'SAME',
  }
  if kind == 'abs_max':
    return scs_jax.abs_max_pool(x, **window)
  if kind == 'stride':
    return x[:, ::size, ::size]
  return {'max': nnx.max_pool, 'average': nnx.avg_pool}[kind](x, **window)


class SoftCosine(scs_jax.nnx.SharpenedCosineSimilarity):
  """Soft cosine similarity: one learned matrix mixes the features of every position."""

  def __init__(self, in_features: int, out_features: int, **settings: Any):
    super().__init__(in_features, out_features, **settings)
    self.mixing = nnx.Param(jnp.eye(in_features))  # starts as the cosine similarity

  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.kernel[...]
    mixing = jnp.kron(jnp.eye(math.prod(kernel.shape[:2])), self.mixing[...])
    strides = cast(int, self.strides)
    y = scs_jax.soft_cosine_similarity(x, kernel, mixing, self.p, self.q, strides=strides)
    return y if self.scale_init is None else y * self.scale[...]


class InsideRoot(scs_jax.nnx.SharpenedCosineSimilarity):
  """The gallery's formula of spring 2022: `sqrt(‖s‖² + q)`, and no q beside the kernel's norm."""

  def __call__(self, x: jax.Array) -> jax.Array:
    kernel, (p, q) = self.kernel[...], (self.p, self.q)
    strides = (cast(int, self.strides),) * 2
    slide = lambda x, kernel: lax.conv_general_dilated(
      x, kernel, strides, 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    squares = slide(jnp.square(x).sum(-1, keepdims=True), jnp.ones((*kernel.shape[:2], 1, 1)))
    length = jnp.sqrt(jnp.square(kernel).sum((0, 1, 2)))
    c = slide(x, kernel) / (jnp.sqrt(squares + q) * length)
    y = c * (c * c + 1e-12) ** ((p - 1) / 2)
    return y if self.scale_init is None else y * self.scale[...]


_KINDS = {
  'scs': scs_jax.nnx.SharpenedCosineSimilarity,
  'soft_cosine': SoftCosine,
  'inside_root': InsideRoot,
}
