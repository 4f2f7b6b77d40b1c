"""The dot product of every patch with every kernel, by the fastest way there is.

XLA's convolution is the fastest on TPU and GPU, and for most dense kernels on CPU. The exceptions
on CPU, each measured in `experiments/speed/`:

- a depthwise convolution is a scalar loop there: shifted multiply-adds of the whole image take a
  hundredth of the time;
- a window of one position is a matrix product;
- an image of few features, as the first layer sees it, has its kernel gradient as one small matrix
  product for each position of the window;
- a convolution in groups is slow in itself: one convolution for each group.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import windows
from scs_jax.ops.arguments import Window
from scs_jax.ops.transposes import bilinear

# Channels last, in the order (input, kernel, output) that lax takes, by number of dimensions.
LAYOUTS = {
  1: ('NHC', 'HIO', 'NHC'),
  2: ('NHWC', 'HWIO', 'NHWC'),
  3: ('NDHWC', 'DHWIO', 'NDHWC'),
}
FEW = 4  # features of an image, rather than of a layer's output


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
    method: 'convolution', 'shifts', or 'auto', see above.
    precision: of the products, as for `lax.conv_general_dilated`.
    dtype: of the sums and of the result.

  Returns:
    `[batch, *output, out]`.
  """
  settings = {'window': window, 'groups': groups, 'precision': precision, 'dtype': dtype}
  convolve = functools.partial(_convolve, **settings)
  shift = functools.partial(_shift, **settings)
  if method != 'auto':
    return {'convolution': convolve, 'shifts': shift}[method](x, kernel)

  positions, depth = math.prod(window.shape), kernel.shape[-2]
  for_kernel = functools.partial(_shift_for_kernel, **settings)
  if groups == 1 and positions == 1:
    on_cpu = bilinear(shift, shift, for_kernel)
  elif groups == 1 and depth == 1:
    columns = functools.partial(_multiply_columns, **settings)
    on_cpu = bilinear(columns, shift, convolve)
  elif groups == 1 and depth <= FEW:
    on_cpu = bilinear(convolve, convolve, for_kernel)
  elif groups == 1 and max(window.strides) > 1:
    on_cpu = bilinear(convolve, shift, convolve)
  elif groups == 1 and len(window.shape) == 3:
    on_cpu = functools.partial(_convolve_planes, precision=precision, dtype=dtype, window=window)
  elif groups == 1:
    return convolve(x, kernel)
  elif depth == 1:
    for_x = functools.partial(_shift_for_x, **settings)
    on_cpu = bilinear(shift, for_x, for_kernel)
  else:
    on_cpu = functools.partial(_convolve_each_group, **settings)
  return lax.platform_dependent(x, kernel, cpu=on_cpu, default=convolve)


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


def _convolve_each_group(x, kernel, *, groups, **settings):
  pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
  return jnp.concatenate([_convolve(s, k, groups=1, **settings) for s, k in pairs], -1)


def _convolve_planes(x, kernel, *, window, precision, dtype):
  """Adds a convolution in two dimensions for each plane of a window in three."""
  depth, plane = windows.along(window, 0, x.shape[1:-1]), windows.without(window, 0)
  total = None
  for view, taps in zip(windows.shifts(x, depth), kernel, strict=True):
    flat = view.reshape(view.shape[0] * view.shape[1], *view.shape[2:])
    y = _convolve(flat, taps, window=plane, groups=1, precision=precision, dtype=dtype)
    total = y if total is None else total + y
  return total.reshape(*view.shape[:2], *total.shape[1:])


def _multiply_columns(x, kernel, *, window, groups, precision, dtype):
  """A matrix product with every patch of an image of one feature, which are small."""
  del groups
  columns = jnp.concatenate(windows.shifts(x, window), -1)
  taps = kernel.reshape(columns.shape[-1], kernel.shape[-1])
  return jnp.matmul(columns, taps, precision=precision, preferred_element_type=dtype)


def _shift(x, kernel, *, window, **settings):
  """Adds a product of the whole shifted image for each position of the window."""
  pairs = zip(windows.shifts(x, window), _taps(kernel), strict=True)
  return _sum(_product(view, tap, **settings) for view, tap in pairs)


def _shift_for_x(x, kernel, *, window, **settings):
  """As `_shift`, but multiplies before it shifts: transposed, it is a sum of slices."""
  return windows.overlap_add([_product(x, tap, **settings) for tap in _taps(kernel)], window)


def _shift_for_kernel(x, kernel, *, window, groups, precision, dtype):
  """As `_shift`; transposed, it is what XLA:CPU is good at."""
  depth, out = kernel.shape[-2:]
  pairs = zip(windows.shifts(x, window), _taps(kernel), strict=True)
  if depth > 1:  # products of two dimensions
    flat = lambda view, tap: _product(
      view.reshape(view.size // depth, depth), tap, groups=1, precision=precision, dtype=dtype
    )
    return _sum(flat(*pair) for pair in pairs).reshape(x.shape[0], *window.output, out)
  # Products of slices, added to one another before what is left of the rows is reduced.
  rows = window.output[0]
  blocks = max(n for n in range(1, 17) if rows % n == 0)
  block = (x.shape[0], rows // blocks, *window.output[1:], out)
  taps = lax.expand_dims(_taps(kernel).astype(dtype)[:, 0], range(1, x.ndim))
  taps = jnp.broadcast_to(taps, (len(taps), *block))
  spread = lambda tap: jnp.concatenate([tap.reshape(block)] * blocks, 1)
  pairs = zip(windows.shifts(x, window), jnp.split(taps, len(taps)), strict=True)
  return _sum(windows.to_kernels(view, out).astype(dtype) * spread(tap) for view, tap in pairs)


def _product(view, tap, *, groups, precision, dtype):
  """Multiplies `view: [..., in]` with `tap: [in // groups, out]`, group by group."""
  depth, out = tap.shape
  if depth == 1 and groups > 1:
    tap = lax.expand_dims(tap[0], range(view.ndim - 1))
    return windows.to_kernels(view, out).astype(dtype) * tap.astype(dtype)
  if groups == 1:
    return jnp.matmul(view, tap, precision=precision, preferred_element_type=dtype)
  else:
    flat = view.reshape(view.size // (groups * depth), groups, depth)
    tap = tap.reshape(depth, groups, out // groups)
    y = jnp.einsum('ngi,igo->ngo', flat, tap, precision=precision, preferred_element_type=dtype)
  return y.reshape(*view.shape[:-1], out)


def _taps(kernel):
  return kernel.reshape(-1, *kernel.shape[-2:])


def _sum(terms):
  return functools.reduce(operator.add, terms)
