"""Sharpened cosine similarity: the equation."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.errors import check_known
from scs_jax.ops import arguments, centering, masking, reference, windows
from scs_jax.ops.correlation import correlate
from scs_jax.ops.derivatives import (
  bounded,
  differentiated_at,
  limit_slope,
  quotient,
  safe_sqrt,
)
from scs_jax.ops.scaling import power_of_two
from scs_jax.ops.sharpening import sharpen, unsharpen

METHODS = ('auto', 'convolution', 'shifts', 'patches')


def sharpened_cosine_similarity(
  x: jax.Array,
  kernel: jax.Array,
  p: jax.typing.ArrayLike = 1.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  kernel_q: jax.typing.ArrayLike | None = None,
  center: bool = False,
  strides: int | Sequence[int] | None = 1,
  padding: arguments.Padding = 'SAME',
  input_dilation: int | Sequence[int] | None = 1,
  kernel_dilation: int | Sequence[int] | None = 1,
  feature_group_count: int = 1,
  mask: jax.typing.ArrayLike | None = None,
  method: str = 'auto',
  precision: lax.PrecisionLike = None,
  preferred_element_type: jax.typing.DTypeLike | None = None,
) -> jax.Array:
  r"""Compares every patch of `x` with every kernel. The result is signed and bounded.

  .. math::
    y = \operatorname{sign}(c)\,|c|^p, \qquad
    c = \frac{s \cdot k}{(\|s\| + q)(\|k\| + q_k)}

  Here `s` is a patch of `x`, with zeros outside the image, and `k` is a kernel. If either is zero,
  the result is 0.

  The power is computed as :math:`c\,(c^2 + \epsilon^2)^{(p-1)/2}` with :math:`\epsilon = 10^{-6}`.
  This form is smooth and odd, and its slope at 0 is finite. It differs from the equation by a
  relative error of at most :math:`|p-1|\,\epsilon^2 / 2c^2`.

  With `center`, `s` and `k` lose their means over window and features of the group, so `c` is
  Pearson's correlation (zero-mean normalised cross-correlation). An offset of the image then
  changes nothing, also at the border: outside the image is its mean in each group.

  Norms, ratio and power are computed in float32, or in float64 if an input is float64. If `x` and
  `kernel` are narrower, derivatives are evaluated at the rounded output. Values are right for norms
  between 1e-33 and 1e37 (of narrow kernels 1e-18 and 1e18), derivatives between 1e-30 and 1e30.
  Values of an image that are less than 1e-18 of its largest count as 0.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    p: sharpening exponent, a scalar or `[out]`, greater than 0; 1 is plain cosine similarity.
    q: added to the norm of the patch, a scalar or `[out]`, at least 0.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    center: whether the means of patch and kernel are subtracted.
    strides: step of the window, an integer or one for each spatial dimension; None is 1.
    padding: as for `flax.nnx.Conv`, in either case: 'SAME', 'SAME_LOWER', 'VALID', 'CIRCULAR',
      'REFLECT', 'CAUSAL' (one spatial dimension), an integer, or an integer or (low, high) pair for
      each spatial dimension. Negative numbers crop the images.
    input_dilation: step between the pixels, like `strides`; zeros are put between them.
    kernel_dilation: step between the positions inside a window, like `strides`.
    feature_group_count: number of groups the features are split into; `in` groups make the
      operation depthwise.
    mask: shape of `kernel`, ones where the kernel sees the patch, zeros elsewhere. The norm of the
      patch counts what the kernel sees; it takes a second convolution.
    method: how the dot products are computed; all agree to rounding at `precision='highest'`.
      'auto' chooses by shape and platform, see `scs_jax/ops/cpu.py`. 'convolution' is XLA's;
      'shifts' adds products of the shifted image, fast for depthwise kernels on CPU; 'patches'
      materialises every patch: the readable reference, at `prod(window)` times the memory.
    precision: of the products, as for `lax.conv_general_dilated`. 'patches' always uses 'highest'.
    preferred_element_type: dtype of the result; None is that of `x`.

  Returns:
    `[batch, *spatial', out]`, within [-1, 1].

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy. Values of p and
      q are checked unless they are traced.

  References:
    Rohrer, 2020: https://twitter.com/_brohrer_/status/1232063619657093120
    Pisoni, 2022: Sharpened Cosine Distance as an Alternative for Convolutions.
    Lewis, 1995: Fast Normalized Cross-Correlation (for `center`).

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> x = jnp.ones((1, 8, 8, 3))
    >>> scs_jax.sharpened_cosine_similarity(x, jnp.ones((3, 3, 3, 4)), p=2.0).shape
    (1, 8, 8, 4)
  """
  check_known('method', method, METHODS)
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  x, window = arguments.seen_by_kernel(
    x, kernel, strides, padding, input_dilation, kernel_dilation, feature_group_count
  )
  if mask is not None:
    mask = masking.as_mask(mask, kernel, center)
    kernel = kernel * mask
  dtype, out = arguments.accumulation_dtype(x, kernel), kernel.shape[-1]
  power, q, q_k = arguments.as_parameters(p, q, kernel_q, out, dtype)
  if center:
    arguments.check_center(kernel.shape, input_dilation)
  return _similarity(
    x,
    kernel,
    power,
    q,
    q_k,
    mask,
    fixed_p=float(p) if isinstance(p, int | float) else None,
    center=bool(center),
    window=window,
    groups=feature_group_count,
    method=method,
    precision=precision,
    result=jnp.dtype(preferred_element_type or x.dtype),
  )


# One program, so that a call outside of jit does not dispatch its operations one by one. Inside of
# another jit it leaves no trace.
@functools.partial(
  jax.jit,
  static_argnames=('fixed_p', 'center', 'window', 'groups', 'method', 'precision', 'result'),
  inline=True,
)
def _similarity(
  x: jax.Array,
  kernel: jax.Array,
  power: jax.Array,
  q: jax.Array,
  q_k: jax.Array,
  mask: jax.Array | None,
  *,
  fixed_p: float | None,
  center: bool,
  window: arguments.Window,
  groups: int,
  method: str,
  precision: lax.PrecisionLike,
  result: jnp.dtype,
) -> jax.Array:
  """Returns the similarity; the arguments are checked. `fixed_p` is p if it is a Python number."""
  dtype = arguments.accumulation_dtype(x, kernel)
  if method == 'patches':
    y = reference.similarity(
      x, kernel, power, q, q_k, window, groups, dtype, center=center, mask=mask
    )
    return y.astype(result)

  # Input and kernel are multiplied in their common dtype. The norms are those of these values.
  common = arguments.common_dtype(x.dtype, kernel.dtype)
  s, k = x.astype(common), kernel.astype(common).astype(dtype)
  q, q_k = (lax.expand_dims(v, range(k.ndim - v.ndim)) for v in (q, q_k))
  axes = range(k.ndim - 1)
  if center:
    s, s_norm, unit = centering.centered_patches(s, window, groups, dtype)
    q = q / windows.to_kernels(unit, k.shape[-1])
    k = centering.deviations(k, axes)
  elif mask is not None:
    s_norm = masking.masked_patch_norms(s, mask, window, groups, dtype)
  else:
    s_norm = windows.patch_norms(s, window, groups, dtype)
  k = k.astype(common).astype(dtype)
  unit = power_of_two(k, axes)
  k_norm = safe_sqrt(jnp.square(k * (1 / unit)).sum(axes, keepdims=True))
  # Kernels are divided by their length before they slide, unless their dtype would round them.
  exact = common == dtype
  if exact:
    k = quotient(k * (1 / unit), k_norm + q_k / unit)
    k_length = jnp.ones_like(unit)
  else:
    k, k_length = k.astype(common), k_norm * unit + q_k
  dot = correlate(s, k, window, groups, method=method, precision=precision, dtype=dtype)

  def finish(dot, s_norm, k_length, q, p):
    c = cosine(dot if exact else quotient(dot, k_length), s_norm, q)
    return sharpen(c, p).astype(result)

  values = (dot, s_norm, k_length, q)
  if fixed_p is not None:
    finish = functools.partial(finish, p=fixed_p)
  else:
    values += (power,)
    if not exact:
      finish = differentiated_at(finish, _recovered_from_output)
  return limit_slope(finish, common)(*values)


def cosine(dot: jax.Array, s_norm: jax.Array, q: jax.Array) -> jax.Array:
  """Returns `dot / (s_norm + q)`, and 0 where the denominator is 0.

  Args:
    dot: `[..., out]`, dot products of patches with kernels of unit length.
    s_norm: `[..., groups]`, the norm of the patch in each group, or `[..., out]`.
    q: `[..., 1]` or `[..., out]`.

  Returns:
    `[..., out]`. Values that rounding takes out of [-1, 1] are clipped; gradients pass unchanged.
  """
  length = _patch_length(s_norm, q, dot.shape[-1])
  if length.shape[-1] == 1:  # One division for each patch serves all kernels.
    return bounded(dot * quotient(jnp.ones_like(length), length))
  return bounded(quotient(dot, length))


def _patch_length(s_norm: jax.Array, q: jax.Array, out: int) -> jax.Array:
  """Returns `s_norm + q`: `[..., 1]` if it is the same for every kernel, else `[..., out]`."""
  return windows.to_kernels(s_norm, out) + q


def _recovered_from_output(
  y: jax.Array,
  dot: jax.Array,
  s_norm: jax.Array,
  k_length: jax.Array,
  q: jax.Array,
  p: jax.Array,
) -> tuple[jax.Array, ...]:
  """Returns the arguments of `finish`, with `dot` recovered from its output `y`.

  The backward pass then need not store the dot products, which are wider than the output if the
  inputs are narrower than float32. The output is stored anyway, as the input of the next layer. On
  TPU this makes a layer cheaper than convolution, BatchNorm and ReLU. Because the output is
  rounded, the derivatives are those at a similarity that differs by about one rounding.
  """
  del dot
  c = unsharpen(y.astype(s_norm.dtype), p)
  return c * _patch_length(s_norm, q, y.shape[-1]) * k_length, s_norm, k_length, q, p
