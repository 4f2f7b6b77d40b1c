"""Expressions that exist for XLA:CPU only, and the one rule that picks them.

XLA's convolution is the fastest on TPU and GPU, and for most dense kernels on CPU. `choose` reads
this table from the top; the first row that fits decides. Each row was measured in
`experiments/speed/`.

    groups  depth      other             value        image's gradient  kernel's gradient
    > 1     > 1                          each_group   its own           its own
    > 1     1                            shift        shift_for_x       shift_for_kernel
    1                  window of one     shift        shift             shift_for_kernel
    1       1                            columns      shift             convolution
    1                  three dimensions  planes       its own           its own
    1       up to FEW                    convolution  convolution       shift_for_kernel
    1                  strides           convolution  shift             convolution
    1                  anything else     convolution  its own           its own

`depth` is the number of features per group.

- A depthwise convolution is a scalar loop in XLA:CPU. Shifted multiply-adds of the whole image,
with
  their gradients, take a thirtieth of its time.
- A convolution in groups is as slow; one convolution per group is not.
- A window of one position is a matrix product.
- An image of one feature has patches that are small enough to be written out.
- A convolution in three dimensions is one in two for each plane of the window.
- With few features, as in a first layer, the gradient of the kernel is one small matrix product
  for each position of the window.
- With strides the gradient of the image is a convolution over zeros; products skip the zeros.

An unrolled form has one term for each position of the window, or one for each group. No limit stops
it yet: 128 groups take 38 s to compile.
"""

import functools
import math
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import windows
from scs_jax.ops.arguments import Window
from scs_jax.ops.convolution import convolve
from scs_jax.ops.transposes import Bilinear, bilinear

FEW = 4  # features of an image, rather than of a layer's output


def choose(depth: int, **settings) -> Bilinear | None:
  """Returns the function of image and kernel that is fastest on CPU; None for the convolution.

  Args:
    depth: features of a kernel, `in // groups`.
    **settings: `window`, `groups`, `precision` and `dtype`, as `convolution.convolve` takes them.
  """
  window, groups = settings['window'], settings['groups']
  convolution, shifted, for_x, for_kernel, columns, planes, each_group = (
    functools.partial(way, **settings)
    for way in (
      convolve,
      shift,
      shift_for_x,
      shift_for_kernel,
      multiply_columns,
      convolve_planes,
      convolve_each_group,
    )
  )
  if groups > 1 and depth > 1:
    return each_group
  if groups > 1:
    depthwise = bilinear(shifted, for_x, for_kernel)
    # With several kernels for each feature the image is repeated once, not for every position.
    return lambda x, kernel: depthwise(windows.to_kernels(x, kernel.shape[-1]), kernel)
  if math.prod(window.shape) == 1:
    return bilinear(shifted, shifted, for_kernel)
  if depth == 1:
    return bilinear(columns, shifted, convolution)
  if len(window.shape) == 3:
    return planes
  if depth <= FEW:
    return bilinear(convolution, convolution, for_kernel)
  if max(window.strides) > 1:
    return bilinear(convolution, shifted, convolution)
  return None


def convolve_each_group(x: jax.Array, kernel: jax.Array, *, groups: int, **settings) -> jax.Array:
  """Joins the results of one convolution for each group."""
  pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
  return jnp.concatenate([convolve(s, k, groups=1, **settings) for s, k in pairs], -1)


def convolve_planes(x: jax.Array, kernel: jax.Array, *, window: Window, **settings) -> jax.Array:
  """Adds one convolution in two dimensions for each plane of a window in three."""
  depth, plane = windows.along(window, 0, x.shape[1:-1]), windows.without(window, 0)
  flat = lambda view: view.reshape(view.shape[0] * view.shape[1], *view.shape[2:])
  pairs = zip(windows.shifts(x, depth), kernel, strict=True)
  y = _sum(convolve(flat(view), taps, window=plane, **settings) for view, taps in pairs)
  return y.reshape(x.shape[0], window.output[0], *y.shape[1:])


def multiply_columns(
  x: jax.Array, kernel: jax.Array, *, window: Window, groups: int, precision, dtype
) -> jax.Array:
  """Multiplies the matrix of all patches, for an image of one feature, whose patches are small."""
  del groups
  columns = jnp.concatenate(windows.shifts(x, window), -1)
  taps = kernel.reshape(columns.shape[-1], kernel.shape[-1])
  return jnp.matmul(columns, taps, precision=precision, preferred_element_type=dtype)


def shift(x: jax.Array, kernel: jax.Array, *, window: Window, **settings) -> jax.Array:
  """Adds a product of the whole shifted image for each position of the window."""
  pairs = zip(windows.shifts(x, window), _taps(kernel), strict=True)
  return _sum(_product(view, tap, **settings) for view, tap in pairs)


def shift_for_x(x: jax.Array, kernel: jax.Array, *, window: Window, **settings) -> jax.Array:
  """Equals `shift`, but multiplies before it shifts: its transpose in `x` is a sum of slices."""
  return windows.overlap_add([_product(x, tap, **settings) for tap in _taps(kernel)], window)


def shift_for_kernel(
  x: jax.Array, kernel: jax.Array, *, window: Window, groups: int, precision, dtype
) -> jax.Array:
  """Equals `shift`; its transpose in `kernel` is made of expressions that XLA:CPU compiles well."""
  del groups
  depth, out = kernel.shape[-2:]
  pairs = zip(windows.shifts(x, window), _taps(kernel), strict=True)
  if depth > 1:  # matrix products
    flat = lambda view, tap: _product(
      view.reshape(view.size // depth, depth), tap, groups=1, precision=precision, dtype=dtype
    )
    return _sum(flat(*pair) for pair in pairs).reshape(x.shape[0], *window.output, out)
  # In blocks of rows: products of slices are added to one another first, then reduced.
  rows = window.output[0]
  blocks = max(n for n in range(1, 17) if rows % n == 0)
  block = (x.shape[0], rows // blocks, *window.output[1:], out)
  taps = lax.expand_dims(_taps(kernel).astype(dtype)[:, 0], range(1, x.ndim))
  taps = jnp.broadcast_to(taps, (len(taps), *block))
  spread = lambda tap: jnp.concatenate([tap.reshape(block)] * blocks, 1)
  pairs = zip(windows.shifts(x, window), jnp.split(taps, len(taps)), strict=True)
  return _sum(view.astype(dtype) * spread(tap) for view, tap in pairs)


def _product(view: jax.Array, tap: jax.Array, *, groups: int, precision, dtype) -> jax.Array:
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


def _taps(kernel: jax.Array) -> jax.Array:
  return kernel.reshape(-1, *kernel.shape[-2:])


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
  return functools.reduce(operator.add, terms)
