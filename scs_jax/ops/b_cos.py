"""B-cos: sharpened cosine similarity times the norm of the patch."""

import jax
from jax import lax

from scs_jax.ops import arguments, windows
from scs_jax.ops.scs import sharpened_cosine_similarity


def b_cos(
  x: jax.Array,
  kernel: jax.Array,
  b: jax.typing.ArrayLike = 2.0,
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
  r"""Multiplies the sharpened cosine similarity by the norm of the patch.

  .. math::
    y = \|s\| \operatorname{sign}(c)\,|c|^b

  The result is linear in the norm of the patch, and therefore not bounded. With `b = 1` it is a
  convolution with kernels of norm 1.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    b: exponent, a scalar or `[out]`, greater than 0.
    q: added to both norms in `c`, a scalar or `[out]`, at least 0; the original has none.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    strides: step of the window.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups; the norm is that of the patch in the kernel's group.
    method: see `sharpened_cosine_similarity`.
    precision: of the products, as for `lax.conv_general_dilated`.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`.

  Raises:
    ArgumentError: as `sharpened_cosine_similarity`.

  References:
    Böhle, Fritz and Schiele, 2022: B-cos Networks: Alignment is All We Need for Interpretability.
  """
  y = sharpened_cosine_similarity(
    x,
    kernel,
    b,
    q,
    kernel_q=kernel_q,
    strides=strides,
    padding=padding,
    kernel_dilation=kernel_dilation,
    feature_group_count=feature_group_count,
    method=method,
    precision=precision,
  )
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  window = arguments.resolve_window(
    x.shape[1:-1],
    kernel.shape[:-2],
    strides,
    padding,
    kernel_dilation,
    shape_name='the kernel window',
  )
  dtype = arguments.accumulation_dtype(x, kernel)
  norm = windows.patch_norms(x, window, feature_group_count, dtype)
  return (y.astype(dtype) * windows.to_kernels(norm, kernel.shape[-1])).astype(y.dtype)
