"""Sliding windows: the linear parts of the similarity, and the norm of every patch.

Two ways to slide a kernel give the same numbers up to rounding: XLA's convolution, and `shifts`,
one multiply-add of the whole image for each position of the window. XLA:CPU runs a depthwise
convolution as a scalar loop, which shifts beat by almost two orders of magnitude; elsewhere, and
for every dense kernel, the convolution wins.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.arguments import Window

# Channels last, in the order (input, kernel, output) that lax takes, by number of dimensions.
LAYOUTS = {
  1: ('NHC', 'HIO', 'NHC'),
  2: ('NHWC', 'HWIO', 'NHWC'),
  3: ('NDHWC', 'DHWIO', 'NDHWC'),
}


def correlate(
  x: jax.Array,
  kernel: jax.Array,
  window: Window,
  groups: int,
  *,
  method: str = 'auto',
  precision: lax.PrecisionLike = None,
  dtype: jnp.dtype,
) -> jax.Array:
  """Returns the dot product of every patch with every kernel.

  Args:
    x: `[batch, *spatial, in]`.
    kernel: `[*window, in // groups, out]`, same dtype as `x`.
    window: the resolved window.
    groups: how many groups the features are split into.
    method: 'convolution', 'shifts', or 'auto': shifts for depthwise kernels on CPU.
    precision: of the products, as for `lax.conv_general_dilated`.
    dtype: of the sums and of the result.

  Returns:
    `[batch, *output, out]`.
  """
  convolve = functools.partial(
    _convolve, window=window, groups=groups, precision=precision, dtype=dtype
  )
  shift = functools.partial(_correlate_by_shifts, window=window, groups=groups, dtype=dtype)
  if method == 'shifts':
    return shift(x, kernel)
  if method == 'auto' and kernel.shape[-2] == 1 and groups > 1:
    return lax.platform_dependent(x, kernel, cpu=shift, default=convolve)
  return convolve(x, kernel)


def _convolve(x, kernel, *, window, groups, precision, dtype):
  return lax.conv_general_dilated(
    x,
    kernel,
    window.strides,
    window.padding,
    rhs_dilation=window.dilation,
    dimension_numbers=LAYOUTS[len(window.shape)],
    feature_group_count=groups,
    precision=precision,
    preferred_element_type=dtype,
  )


def _correlate_by_shifts(x, kernel, *, window, groups, dtype):
  x, kernel, out = x.astype(dtype), kernel.astype(dtype), kernel.shape[-1]
  kernel = kernel.reshape(-1, *kernel.shape[-2:])  # [taps, in // groups, out]
  # [taps, in // groups, groups, out // groups]: what each feature of each group is multiplied by.
  kernel = kernel.reshape(*kernel.shape[:2], groups, -1)
  total = None
  for tap, shifted in zip(kernel, shifts(x, window), strict=True):
    features = shifted.reshape(*shifted.shape[:-1], groups, kernel.shape[1])
    for i in range(kernel.shape[1]):
      term = features[..., i, None] * lax.expand_dims(tap[i], range(x.ndim - 1))
      total = term if total is None else total + term
  return total.reshape(*total.shape[:-2], out)


def shifts(x: jax.Array, window: Window, fill: float = 0) -> list[jax.Array]:
  """Returns, for each position in the window, what every placement of the window sees there.

  Args:
    x: `[batch, *spatial, features]`.
    window: the resolved window.
    fill: what the padding is filled with.

  Returns:
    One `[batch, *output, features]` for each position, in row-major order.
  """
  views = [lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *_edges(window), (0, 0, 0)])]
  for dimension in range(len(window.shape)):
    views = [tap for view in views for tap in _taps(view, dimension, window)]
  return views


def window_sum(x: jax.Array, window: Window) -> jax.Array:
  """Returns the sum of `x: [batch, *spatial, features]` over every window, zeros outside.

  Box windows are separable, so each dimension is summed by itself. Only additions: a window of
  zeros sums to 0 exactly, which a running sum with subtractions would not promise.
  """
  x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *_edges(window), (0, 0, 0)])
  for dimension in range(len(window.shape)):
    x = functools.reduce(operator.add, _taps(x, dimension, window))
  return x


def _edges(window: Window) -> list[tuple[int, int, int]]:
  return [(low, high, 0) for low, high in window.padding]


def _taps(x: jax.Array, dimension: int, window: Window) -> list[jax.Array]:
  """Slices spatial `dimension` of the padded `x` once for each position of the window in it."""
  stride, dilation = window.strides[dimension], window.dilation[dimension]
  span = (window.output[dimension] - 1) * stride + 1
  starts = [i * dilation for i in range(window.shape[dimension])]
  return [lax.slice_in_dim(x, s, s + span, stride, axis=dimension + 1) for s in starts]


def patch_norms(x: jax.Array, window: Window, groups: int, dtype: jnp.dtype) -> jax.Array:
  """Returns the Euclidean norm of every patch in each group: `[batch, *output, groups]`.

  The squares are summed over the features first, so that the window slides over one number for
  each group instead of `in // groups`.
  """
  squares = jnp.square(x.astype(dtype))
  squares = squares.reshape(*x.shape[:-1], groups, x.shape[-1] // groups).sum(-1)
  return safe_sqrt(window_sum(squares, window))


def safe_sqrt(x: jax.Array) -> jax.Array:
  """Returns `sqrt(x)` for `x >= 0`, whose derivatives at 0 are 0 instead of infinite."""
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
