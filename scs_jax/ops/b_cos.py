"""B-cos: sharpened cosine similarity that keeps the length of the patch."""

import jax

from scs_jax.ops import arguments, windows
from scs_jax.ops.scs import sharpened_cosine_similarity


def b_cos(
  x: jax.Array,
  kernel: jax.Array,
  b: jax.typing.ArrayLike = 2.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  strides: int | tuple[int, ...] = 1,
  padding: arguments.Padding = 'SAME',
  kernel_dilation: int | tuple[int, ...] = 1,
  feature_group_count: int = 1,
  **more,
) -> jax.Array:
  r"""Multiplies the sharpened cosine similarity by the norm of the patch.

  .. math::
    y = \|s\| \operatorname{sign}(c)\,|c|^b

  The nearest relative of sharpened cosine similarity: linear in the length of the patch, so not
  bounded. With `b` 1 it is a convolution with kernels of norm 1.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    b: exponent, a scalar or `[out]`, greater than 0.
    q: added to both norms in `c`, a scalar or `[out]`, at least 0; the original has none.
    strides: step of the window.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups; the norm is that of the patch in the kernel's group.
    **more: `kernel_q`, `method` and `precision`, see `sharpened_cosine_similarity`.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`.

  Raises:
    ValueError: as `sharpened_cosine_similarity`.

  References:
    Böhle, Fritz and Schiele, 2022: B-cos Networks: Alignment is All We Need for Interpretability.
  """
  geometry = {'strides': strides, 'padding': padding, 'kernel_dilation': kernel_dilation}
  y = sharpened_cosine_similarity(
    x, kernel, b, q, feature_group_count=feature_group_count, **geometry, **more
  )
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  window = arguments.resolve_window(
    x.shape[1:-1], kernel.shape[:-2], *geometry.values(), shape_name='the kernel window'
  )
  dtype = arguments.accumulation_dtype(x, kernel)
  norm = windows.patch_norms(x, window, feature_group_count, dtype)
  return (y.astype(dtype) * windows.to_kernels(norm, kernel.shape[-1])).astype(y.dtype)
