"""The dot product of every patch with every kernel, by the fastest way there is.

XLA's convolution is the fastest on TPU and GPU, and for most dense kernels on CPU. The exceptions
on CPU, each measured in `experiments/speed/`:

- a depthwise convolution is a scalar loop there: shifted multiply-adds of the whole image, with
  their gradients, take a thirtieth of the time;
- a convolution in groups is as slow: one convolution for each group;
- a window of one position is a matrix product;
- an image of one feature has patches small enough to be written out;
- a convolution in three dimensions is one in two for each plane of the window;
- an image of few features, as the first layer sees it, has its kernel gradient as one small matrix
  product for each position of the window;
- with strides the gradient of the image is a convolution over zeros: products without them instead.

Which expression runs forward and which ones give the gradients is chosen apart, see `bilinear`.
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
  if method == 'convolution':
    return convolve(x, kernel)
  if method == 'shifts':
    return _shift(x, kernel, **settings)
  on_cpu = _fastest_on_cpu(kernel.shape[-2], **settings)
  if on_cpu is None:
    return convolve(x, kernel)
  return lax.platform_dependent(x, kernel, cpu=on_cpu, default=convolve)


def _fastest_on_cpu(depth, *, window, groups, **types):
  """Returns a function of image and kernel, or None where it is the convolution."""
  settings = {'window': window, 'groups': groups, **types}
  convolve, shift, for_x, for_kernel, columns, planes, each_group = (
    functools.partial(way, **settings)
    for way in (
      _convolve, _shift, _shift_for_x, _shift_for_kernel, _multiply_columns, _convolve_planes,
      _convolve_each_group,
    )
  )  # fmt: skip
  if groups > 1 and depth > 1:
    return each_group
  if groups > 1:
    depthwise = bilinear(shift, for_x, for_kernel)
    # With several kernels for each feature the image is repeated once, not for every position.
    return lambda x, kernel: depthwise(windows.to_kernels(x, kernel.shape[-1]), kernel)
  if math.prod(window.shape) == 1:
    return bilinear(shift, shift, for_kernel)
  if depth == 1:
    return bilinear(columns, shift, convolve)
  if len(window.shape) == 3:
    return planes
  if depth <= FEW:
    return bilinear(convolve, convolve, for_kernel)
  if max(window.strides) > 1:
    return bilinear(convolve, shift, convolve)
  return None


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


def _convolve_planes(x, kernel, *, window, **settings):
  """Adds a convolution in two dimensions for each plane of a window in three."""
  depth, plane = windows.along(window, 0, x.shape[1:-1]), windows.without(window, 0)
  flat = lambda view: view.reshape(view.shape[0] * view.shape[1], *view.shape[2:])
  pairs = zip(windows.shifts(x, depth), kernel, strict=True)
  y = _sum(_convolve(flat(view), taps, window=plane, **settings) for view, taps in pairs)
  return y.reshape(x.shape[0], window.output[0], *y.shape[1:])


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
  del groups
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
  return _sum(view.astype(dtype) * spread(tap) for view, tap in pairs)


def _product(view, tap, *, groups, precision, dtype):
  """Multiplies `view: [..., in]` with `tap: [in // groups, out]`, group by group."""
  depth, out = tap.shape
  if depth == 1 and groups > 1:
    tap = lax.expand_dims(tap[0], range(view.ndim - 1))
    return windows.to_kernels(view, out).astype(dtype) * tap.astype(dtype)
  if groups == 1:
    return jnp.matmul(view, tap, precision=precision, preferred_element_type=dtype)
  flat = view.reshape(view.size // (groups * depth), groups, depth)
  tap = tap.reshape(depth, groups, out // groups)
  y = jnp.einsum('ngi,igo->ngo', flat, tap, precision=precision, preferred_element_type=dtype)
  return y.reshape(*view.shape[:-1], out)


def _taps(kernel):
  return kernel.reshape(-1, *kernel.shape[-2:])


def _sum(terms):
  return functools.reduce(operator.add, terms)
