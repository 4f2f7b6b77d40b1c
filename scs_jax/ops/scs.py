"""Sharpened cosine similarity: the equation."""

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import arguments, reference, windows
from scs_jax.ops.sharpening import sharpen
from scs_jax.spelling import check_known

METHODS = ('auto', 'convolution', 'shifts', 'patches')


def sharpened_cosine_similarity(
  x: jax.Array,
  kernel: jax.Array,
  p: jax.typing.ArrayLike = 1.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  kernel_q: jax.typing.ArrayLike | None = None,
  strides: int | tuple[int, ...] = 1,
  padding: arguments.Padding = 'SAME',
  kernel_dilation: int | tuple[int, ...] = 1,
  feature_group_count: int = 1,
  method: str = 'auto',
  precision: lax.PrecisionLike = None,
) -> jax.Array:
  r"""Compares every patch of `x` with every kernel: signed, bounded, sharpened.

  .. math::
    y = \operatorname{sign}(c)\,|c|^p, \qquad
    c = \frac{s \cdot k}{(\|s\| + q)(\|k\| + q_k)}

  where `s` is a patch of `x`, zeros outside the image. The power is computed as
  :math:`c\,(c^2 + \epsilon^2)^{(p-1)/2}` with :math:`\epsilon = 10^{-6}`, which is smooth and odd:
  it neither jumps nor has an infinite slope at 0, and differs from the equation by a relative
  :math:`|p-1|\,\epsilon^2 / 2c^2` at most. A patch or kernel of zeros gives 0. Norms, ratio and
  power are taken in float32 (float64 for float64 input) and the result is cast to the dtype of
  `x`; norms should lie between 1e-18 and 1e18, where float32 can hold their squares.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    p: sharpening exponent, a scalar or `[out]`, greater than 0; 1 is plain cosine similarity.
    q: added to the norm of the patch, a scalar or `[out]`, at least 0: patches much shorter than
      q give values near 0.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    strides: step of the window, an integer or one for each spatial dimension.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups the features are split into; `in` is depthwise.
    method: 'convolution' slides XLA's convolution over the image and takes the norms from one
      squared channel a group; 'shifts' multiplies and adds the shifted image, which is fast for
      depthwise kernels on CPU and slow for dense ones; 'patches' materialises every patch (about
      `prod(window)` times the memory) and is the readable reference; 'auto' is shifts for
      depthwise kernels on CPU, else convolution. All agree to rounding at
      `precision='highest'`.
    precision: of the products in the convolution, as for `lax.conv_general_dilated`; 'patches' is
      always 'highest'.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`, within [-1, 1].

  Raises:
    ValueError: naming the argument, its value and what would be right. `p` and `q` are checked
      unless they are traced.

  References:
    Rohrer, 2020: https://twitter.com/_brohrer_/status/1232063619657093120
    Pisoni, 2022: Sharpened Cosine Distance as an Alternative for Convolutions.

  Example:
    >>> x = jnp.ones((1, 8, 8, 3))
    >>> scs_jax.sharpened_cosine_similarity(x, jnp.ones((3, 3, 3, 4)), p=2.0).shape
    (1, 8, 8, 4)
  """
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  spatial = arguments.check_images(x)
  arguments.check_kernel(x, kernel, feature_group_count)
  check_known('method', method, METHODS)
  window = arguments.resolve_window(
    spatial, kernel.shape[:-2], strides, padding, kernel_dilation, shape_name='the kernel window'
  )
  dtype, out = arguments.accumulation_dtype(x, kernel), kernel.shape[-1]
  power = arguments.as_scalar_or_features('p', p, out, dtype, positive=True)
  q_x = arguments.as_scalar_or_features('q', q, out, dtype, positive=False)
  q_k = q_x
  if kernel_q is not None:
    q_k = arguments.as_scalar_or_features('kernel_q', kernel_q, out, dtype, positive=False)

  if method == 'patches':
    y = reference.similarity(x, kernel, power, q_x, q_k, window, feature_group_count, dtype)
    return y.astype(x.dtype)

  # Norms are of the values that are multiplied.
  common = arguments.common_dtype(x.dtype, kernel.dtype)
  s, k = x.astype(common), kernel.astype(common)
  dot = windows.correlate(
    s, k, window, feature_group_count, method=method, precision=precision, dtype=dtype
  )
  s_norm = windows.patch_norms(s, window, feature_group_count, dtype)
  k_norm = windows.safe_sqrt(jnp.square(k.astype(dtype)).sum(range(k.ndim - 1)))
  c = cosine(dot, s_norm, k_norm, q_x, q_k)
  return sharpen(c, float(p) if isinstance(p, int | float) else power).astype(x.dtype)


def cosine(
  dot: jax.Array, s_norm: jax.Array, k_norm: jax.Array, q: jax.Array, kernel_q: jax.Array
) -> jax.Array:
  """Returns `dot / ((s_norm + q) (k_norm + kernel_q))`, 0 where the denominator is 0.

  Args:
    dot: `[..., out]`.
    s_norm: `[..., groups]`, the norm of the patch in each group.
    k_norm: `[out]`.
    q: scalar or `[out]`.
    kernel_q: scalar or `[out]`.

  Returns:
    `[..., out]`; rounding may not take it out of [-1, 1], and the gradient never notices.
  """
  groups, out = s_norm.shape[-1], dot.shape[-1]
  per_kernel = lambda v: v.reshape((1,) * (dot.ndim - 1) + ((groups, -1) if v.ndim else (1, 1)))
  s_scale = _reciprocal(s_norm[..., None] + per_kernel(q))  # [..., groups, out // groups or 1]
  k_scale = _reciprocal(per_kernel(k_norm) + per_kernel(kernel_q))
  c = dot.reshape(*dot.shape[:-1], groups, out // groups) * s_scale * k_scale
  c = c.reshape(dot.shape)
  return c + lax.stop_gradient(jnp.clip(c, -1, 1) - c)


def _reciprocal(x: jax.Array) -> jax.Array:
  """Returns 1 / x for x > 0, else 0: nothing is similar to a patch of zeros."""
  positive = x > 0
  return jnp.where(positive, 1 / jnp.where(positive, x, 1), 0)
