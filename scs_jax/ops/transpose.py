"""Transposed sharpened cosine similarity, for decoders."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scs_jax.errors import ArgumentError
from scs_jax.ops import arguments, windows
from scs_jax.ops.correlation import correlate
from scs_jax.ops.derivatives import limit_slope, quotient, safe_sqrt
from scs_jax.ops.scaling import power_of_two
from scs_jax.ops.scs import cosine
from scs_jax.ops.sharpening import sharpen


def sharpened_cosine_transpose(
  x: jax.Array,
  kernel: jax.Array,
  p: jax.typing.ArrayLike = 1.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  kernel_q: jax.typing.ArrayLike | None = None,
  strides: int | Sequence[int] | None = 1,
  padding: arguments.Padding = 'SAME',
  kernel_dilation: int | Sequence[int] | None = 1,
  precision: lax.PrecisionLike = None,
) -> jax.Array:
  """Enlarges images by similarities, as `jax.lax.conv_transpose` does by dot products.

  An output position sees some pixels of the image, and those weights of the kernel that lie on
  them. It is the sharpened cosine similarity of the two: neither norm counts anything else. With
  stride 2 and a 3×3 kernel that is one weight, two or four. A position that sees nothing is 0.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in, out]`, floating.
    p: sharpening exponent, a scalar or `[out]`, greater than 0.
    q: added to the norm of what is seen of the image, a scalar or `[out]`, at least 0.
    kernel_q: added to the norm of what is seen of the kernel, like `q`; None means `q`.
    strides: factor by which the images grow, an integer or one for each spatial dimension.
    padding: as for `jax.lax.conv_transpose`: 'SAME' (the output is `strides` times as large),
      'VALID', an integer, or a (low, high) pair for each spatial dimension.
    kernel_dilation: step between the positions inside a window.
    precision: of the products, as for `lax.conv_general_dilated`.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`, within [-1, 1]. The shape is that of
    `jax.lax.conv_transpose`.

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> code, kernel = jnp.ones((1, 7, 7, 16)), jnp.ones((3, 3, 16, 8))
    >>> scs_jax.sharpened_cosine_transpose(code, kernel, strides=2).shape
    (1, 14, 14, 8)
  """
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  rank, out = len(arguments.check_images(x)), kernel.shape[-1]
  if kernel.ndim != x.ndim:
    raise ArgumentError(
      f'kernel must be [*window, in, out] with {rank} window dimensions to match x of shape '
      f'{x.shape}, got shape {kernel.shape}'
    )
  steps = arguments.steps('strides', strides, rank)
  dilation = arguments.steps('kernel_dilation', kernel_dilation, rank)
  pads = _pads(padding, kernel.shape[:rank], steps, dilation)
  x, window = arguments.seen_by_kernel(x, kernel, 1, pads, steps, dilation, 1)
  dtype = arguments.accumulation_dtype(x, kernel)
  p, q, q_k = arguments.as_parameters(p, q, kernel_q, out, dtype)

  common = arguments.common_dtype(x.dtype, kernel.dtype)
  s, k = x.astype(common), kernel.astype(common).astype(dtype)
  unit = power_of_two(k, range(k.ndim - 1))
  k = (k * (1 / unit)).astype(common)
  seen = k.astype(dtype)
  squares = jnp.square(seen).sum(-2)  # [*window, out]
  for i in range(rank):  # From positions of the window to positions of the output.
    taps = np.arange(window.shape[i]) * window.dilation[i]
    positions = np.arange(window.output[i])[:, None] + taps - pads[i][0]
    on_pixel = jnp.asarray(positions % steps[i] == 0, dtype)
    squares = jnp.moveaxis(jnp.tensordot(on_pixel, squares, (1, i), precision='highest'), 0, i)
  q_k = lax.expand_dims(q_k / unit.reshape(out), range(rank))
  k_length = lax.expand_dims(safe_sqrt(squares) + q_k, (0,))  # [1, *output, out]
  dot = correlate(s, k, window, 1, precision=precision, dtype=dtype)
  s_norm = windows.patch_norms(s, window, 1, dtype)

  def finish(dot, s_norm, k_length, q, p):
    return sharpen(cosine(quotient(dot, k_length), s_norm, q), p).astype(x.dtype)

  q = lax.expand_dims(q, range(dot.ndim - q.ndim))
  return limit_slope(finish, common)(dot, s_norm, jnp.broadcast_to(k_length, dot.shape), q, p)


def _pads(
  padding: arguments.Padding,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
  """Returns the padding of the spread images, as `jax.lax.conv_transpose` chooses it."""
  name = padding.upper() if isinstance(padding, str) else None
  if name not in ('SAME', 'VALID'):
    if name is not None:
      raise ArgumentError(
        f"padding must be 'SAME', 'VALID', an integer, or one (low, high) pair for each spatial "
        f'dimension; got {padding!r}'
      )
    return arguments.padding_pairs(padding, shape, shape, strides, negative=True)
  pads = []
  for size, stride, step in zip(shape, strides, dilation, strict=True):
    reach = (size - 1) * step + 1
    if name == 'VALID':
      low, total = reach - 1, reach + stride - 2 + max(reach - stride, 0)
    else:
      total = reach + stride - 2
      low = reach - 1 if stride > reach - 1 else math.ceil(total / 2)
    pads.append((low, total - low))
  return tuple(pads)
