"""B-cos: sharpened cosine similarity times the norm of the patch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import arguments, centering, masking, windows
from scs_jax.ops.scs import sharpened_cosine_similarity


def b_cos(
  x: jax.Array,
  kernel: jax.Array,
  b: jax.typing.ArrayLike = 2.0,
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
    padding: as for `sharpened_cosine_similarity`.
    input_dilation: step between the pixels; zeros are put between them.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups. The norm is that of the patch in the kernel's group.
    mask: shape of `kernel`, ones where the kernel sees the patch; the norm is that of what it sees.
    method: how the dot products are computed, see `sharpened_cosine_similarity`.
    precision: of the products, as for `lax.conv_general_dilated`.
    preferred_element_type: dtype of the result; None is that of `x`.

  Returns:
    `[batch, *spatial', out]`.

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
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  groups, result = feature_group_count, preferred_element_type or x.dtype
  x, window = arguments.seen_by_kernel(
    x, kernel, strides, padding, input_dilation, kernel_dilation, groups
  )
  if center:
    arguments.check_center(kernel.shape, input_dilation)
  y = sharpened_cosine_similarity(
    x,
    kernel,
    b,
    q,
    kernel_q=kernel_q,
    center=center,
    strides=window.strides,
    padding=window.padding,
    kernel_dilation=window.dilation,
    feature_group_count=groups,
    mask=mask,
    method=method,
    precision=precision,
  )
  dtype = arguments.accumulation_dtype(x, kernel)
  if center:
    _, norm, unit = centering.centered_patches(x, window, groups, dtype)
    norm = norm * unit
  elif mask is not None:
    norm = masking.masked_patch_norms(x, jnp.asarray(mask), window, groups, dtype)
  else:
    norm = windows.patch_norms(x, window, groups, dtype)
  return (y.astype(dtype) * windows.to_kernels(norm, kernel.shape[-1])).astype(result)
