"""Sharpened cosine similarity: the equation."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from scs_jax.errors import check_known
from scs_jax.ops import arguments, reference, windows
from scs_jax.ops.correlation import correlate
from scs_jax.ops.sharpening import sharpen, unsharpen

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

  where `s` is a patch of `x`, with zeros outside the image. The power is computed as
  :math:`c\,(c^2 + \epsilon^2)^{(p-1)/2}` with :math:`\epsilon = 10^{-6}`. This form is smooth and
  odd, has a finite slope at 0, and differs from the equation by a relative :math:`|p-1|\,\epsilon^2
  / 2c^2` at most. A patch or kernel of zeros gives 0. Norms, ratio and power are computed in
  float32 (float64 for float64 input), and the result is cast to the dtype of `x`. Below float32 the
  derivatives are those at the rounded output. Norms should lie between 1e-18 and 1e18, where
  float32 can hold their squares.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    p: sharpening exponent, a scalar or `[out]`, greater than 0; 1 is plain cosine similarity.
    q: added to the norm of the patch, a scalar or `[out]`, at least 0. Patches with a norm far
    below
      q give values near 0.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    strides: step of the window, an integer or one for each spatial dimension.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups the features are split into; `in` groups are depthwise.
    method: 'convolution' uses XLA's convolution, and norms from one squared channel per group.
      'shifts' multiplies and adds the shifted image, which is fast for depthwise kernels on CPU and
      slow for dense ones. 'patches' materialises every patch (about `prod(window)` times the
      memory) and is the readable reference. 'auto' is the convolution, except for some shapes on
      CPU, see `scs_jax/ops/cpu.py`. All agree to rounding at `precision='highest'`.
    precision: of the products in the convolution, as for `lax.conv_general_dilated`; 'patches' is
      always 'highest'.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`, within [-1, 1].

  Raises:
    ArgumentError: naming the argument, its value and what would be right. `p` and `q` are checked
      unless they are traced.

  References:
    Rohrer, 2020: https://twitter.com/_brohrer_/status/1232063619657093120
    Pisoni, 2022: Sharpened Cosine Distance as an Alternative for Convolutions.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
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

  # The norms are those of the very values that are multiplied.
  groups, common = feature_group_count, arguments.common_dtype(x.dtype, kernel.dtype)
  s, k = x.astype(common), kernel.astype(common)
  s_norm = windows.patch_norms(s, window, groups, dtype)
  k_length = windows.safe_sqrt(jnp.square(k.astype(dtype)).sum(range(k.ndim - 1))) + q_k
  k_length = lax.expand_dims(k_length, range(k.ndim - 1))
  # The kernel is divided by its length before it slides, unless its dtype would round the result.
  exact = common == dtype
  if exact:
    k, k_length = quotient(k, k_length), jnp.ones_like(k_length)
  dot = correlate(s, k, window, groups, method=method, precision=precision, dtype=dtype)

  def finish(dot, s_norm, k_length, q, p):
    c = cosine(dot, s_norm, q) if exact else cosine(quotient(dot, k_length), s_norm, q)
    return sharpen(c, p).astype(x.dtype)

  if isinstance(p, int | float):
    return finish(dot, s_norm, k_length, q_x, float(p))
  if not exact:
    finish = _derived_from_output(finish)
  return finish(dot, s_norm, k_length, q_x, power)


def _derived_from_output(finish):
  """Returns `finish` with derivatives that recover the similarity from the output.

  The next layer keeps the output anyway. In low precision the dot products are wider than the
  output, so the backward pass then need not store and read them. On TPU this makes a layer cheaper
  than convolution, BatchNorm and ReLU. The derivatives are those at the rounded output.
  """
  derived = jax.custom_jvp(finish)

  def rule(primals, tangents):
    y = derived(*primals)
    _, s_norm, k_length, q, p = primals
    c = unsharpen(y.astype(s_norm.dtype), p)
    recovered = (c * _patch_length(s_norm, q, y.shape[-1]) * k_length, *primals[1:])
    live = [not isinstance(tangent, SymbolicZero) for tangent in tangents]
    if not any(live):
      return y, jnp.zeros_like(y)

    def of_live(*values):
      values = iter(values)
      return finish(*(next(values) if on else v for on, v in zip(live, recovered, strict=True)))

    point, direction = (
      [v for on, v in zip(live, values, strict=True) if on] for values in (recovered, tangents)
    )
    return y, jax.jvp(of_live, point, direction)[1]

  derived.defjvp(rule, symbolic_zeros=True)
  return derived


def cosine(dot: jax.Array, s_norm: jax.Array, q: jax.Array) -> jax.Array:
  """Returns `dot / (s_norm + q)`, 0 where the denominator is 0.

  Args:
    dot: `[..., out]`, of the patch with kernels that are already divided by their length.
    s_norm: `[..., groups]`, the norm of the patch in each group.
    q: scalar or `[out]`.

  Returns:
    `[..., out]`, clipped to [-1, 1] against rounding; the gradient ignores the clipping.
  """
  length = _patch_length(s_norm, q, dot.shape[-1])
  if length.shape[-1] == 1:  # one division for all kernels
    return _bounded(dot * quotient(jnp.ones_like(length), length))
  return _bounded(quotient(dot, length))


def _patch_length(s_norm, q, out):
  """Returns `s_norm + q`: `[..., 1]` if it is the same for every kernel, else `[..., out]`."""
  return windows.to_kernels(s_norm, out) + (
    lax.expand_dims(q, range(s_norm.ndim - 1)) if q.ndim else q
  )


@jax.custom_jvp
def quotient(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `a / b` where `b > 0`, else 0: a patch of zeros resembles nothing."""
  positive = b > 0
  return jnp.where(positive, a / jnp.where(positive, b, 1), 0)


@quotient.defjvp
def _quotient_jvp(primals, tangents):
  (a, b), (da, db) = primals, tangents
  y = quotient(a, b)
  return y, quotient(da - y * db, b)


@jax.custom_jvp
def _bounded(c):
  return jnp.clip(c, -1, 1)


_bounded.defjvp(lambda primals, tangents: (_bounded(*primals), *tangents))
