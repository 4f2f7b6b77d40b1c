"""B-cos: sharpened cosine similarity times the norm of the patch."""

from collections.abc import Sequence

import jax
from jax import lax

from scs_jax.ops import arguments, centering, windows
from scs_jax.ops.scs import sharpened_cosine_similarity


def b_cos(
  x: jax.Array,
  kernel: jax.Array,
  b: jax.typing.ArrayLike = 2.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  kernel_q: jax.typing.ArrayLike | None = None,
  center: bool = False,
  strides: int | Sequence[int] = 1,
  padding: arguments.Padding = 'SAME',
  kernel_dilation: int | Sequence[int] = 1,
  feature_group_count: int = 1,
  method: str = 'auto',
  precision: lax.PrecisionLike = None,
) -> jax.Array:
  r"""Multiplies the sharpened cosine similarity by the norm of the patch.

  .. math::
    y = \|s\| \operatorname{sign}(c)\,|c|^b

  The cosine :math:`c` is that of `sharpened_cosine_similarity`. B-cos is linear in the length of
  the patch, and therefore not bounded. With `b` 1 it is a convolution with kernels of norm 1.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    b: sharpening exponent, a scalar or `[out]`, greater than 0.
    q: added to the norm of the patch in `c`, a scalar or `[out]`, at least 0. The paper has no q.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    center: whether the means of patch and kernel are subtracted, in `c` and in the norm.
    strides: step of the window, an integer or one for each spatial dimension.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups. The norm is that of the patch in the kernel's group.
    method: how the dot products are computed, see `sharpened_cosine_similarity`.
    precision: of the products, as for `lax.conv_general_dilated`.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`.

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.

  References:
    Böhle, Fritz and Schiele, 2022: B-cos Networks: Alignment is All We Need for Interpretability.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> patch, kernel = jnp.array([[[3.0, 4.0]]]), jnp.array([[[4.0], [3.0]]])
    >>> scs_jax.b_cos(patch, kernel, b=1.0).round(3)  # 5 * 24 / 25
    Array([[[4.8]]], dtype=float32)
  """
  y = sharpened_cosine_similarity(
    x,
    kernel,
    b,
    q,
    kernel_q=kernel_q,
    center=center,
    strides=strides,
    padding=padding,
    kernel_dilation=kernel_dilation,
    feature_group_count=feature_group_count,
    method=method,
    precision=precision,
  )
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  window = arguments.resolve_kernel_window(
    x, kernel, strides, padding, kernel_dilation, feature_group_count
  )
  dtype = arguments.accumulation_dtype(x, kernel)
  if center:
    _, norm, unit = centering.centered_patches(x, window, feature_group_count, dtype)
    norm = norm * unit
  else:
    norm = windows.patch_norms(x, window, feature_group_count, dtype)
  return (y.astype(dtype) * windows.to_kernels(norm, kernel.shape[-1])).astype(y.dtype)
