"""The dot product of every patch with every kernel, in forms that are fast on CPU.

XLA's convolution is fast on GPU and TPU, and on CPU for most dense kernels. For some shapes XLA:CPU
has no fast code. `choose` replaces the convolution there, by the first row of this table that
applies (`depth` is the number of input features in a group):

| shape                    | value             | gradient of x       | gradient of kernel |
|--------------------------|-------------------|---------------------|--------------------|
| groups > 1 and depth > 1 | _convolve_groups  | (JAX derives it)    | (JAX derives it)   |
| groups > 1 (depthwise)   | shift_and_add     | _multiply_and_shift | _shift_for_kernel  |
| window of one position   | shift_and_add     | shift_and_add       | _shift_for_kernel  |
| depth = 1                | _multiply_patches | shift_and_add       | convolve           |
| three spatial dimensions | _convolve_planes  | (JAX derives it)    | (JAX derives it)   |
| depth <= FEW             | convolve          | convolve            | _shift_for_kernel  |
| a stride above 1         | convolve          | shift_and_add       | convolve           |
| all others               | convolve          | convolve            | convolve           |

A gradient is the transpose of the expression that the table names. All expressions are equal in
exact arithmetic. The reasons:

- XLA:CPU runs a depthwise convolution as a scalar loop. Shifted multiply-adds of the whole image
  take a thirtieth of the time, gradients included.
- Other grouped convolutions are as slow. One convolution for each group is faster.
- A window of one position is a matrix product.
- An image of one feature has patches small enough to be written out for one matrix product.
- A convolution in three dimensions is slow. It is the sum of one convolution in two dimensions for
  each plane of the window.
- The first layer of a network sees an image of few features. The gradient of its kernel is one
  small matrix product for each position of the window.
- With strides, the gradient of the image is a convolution over inserted zeros. Products of the
  shifted image skip the zeros.

Limits of the rule: it looks at shapes alone, not at dtype, batch size or number of cores. Its
measurements are in `experiments/speed/`: two cores, float32, windows of 1 to 5 positions along each
dimension. The shifted forms have one term for each position of the window and `_convolve_groups`
one for each group. Their number is not bounded, so a large window or many groups compile slowly.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import windows
from scs_jax.ops.convolution import Settings, convolve
from scs_jax.ops.derivatives import Bilinear, bilinear, linear

FEW = 4  # an image has at most this many features, the output of a layer usually more


def choose(depth: int, settings: Settings) -> Bilinear | None:
  """Returns the form of the correlation that is fastest on CPU.

  Args:
    depth: number of input features in a group.
    settings: of the correlation.

  Returns:
    A function of image and kernel, or None if `convolve` itself is the fastest.
  """
  window, groups = settings.window, settings.groups

  def row(*forms):  # value, gradient of x, gradient of kernel
    return bilinear(*(functools.partial(form, settings=settings) for form in forms))

  if groups > 1 and depth > 1:
    return functools.partial(_convolve_groups, settings=settings)
  if groups > 1:
    depthwise = row(shift_and_add, _multiply_and_shift, _shift_for_kernel)
    # If a feature has several kernels, repeat it once here instead of at every window position.
    return lambda x, kernel: depthwise(windows.to_kernels(x, kernel.shape[-1]), kernel)
  if math.prod(window.shape) == 1:
    return row(shift_and_add, shift_and_add, _shift_for_kernel)
  if depth == 1:
    return row(_multiply_patches, shift_and_add, convolve)
  if len(window.shape) == 3:
    return functools.partial(_convolve_planes, settings=settings)
  if depth <= FEW:
    return row(convolve, convolve, _shift_for_kernel)
  if max(window.strides) > 1:
    return row(convolve, shift_and_add, convolve)
  return None


def shift_and_add(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Adds the products of the shifted image, one for each position of the window."""
  pairs = zip(windows.shifts(x, settings.window), _taps(kernel), strict=True)
  return _sum(_product(view, tap, settings) for view, tap in pairs)


def _multiply_and_shift(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Multiplies the image before shifting it, so that its transpose is a sum of slices."""
  products = [_product(x, tap, settings) for tap in _taps(kernel)]
  return windows.overlap_add(products, settings.window)


def _shift_for_kernel(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Equals `shift_and_add`; its transpose with respect to the kernel is fast.

  With several features in a group there is one group, and the transpose is a matrix product of two
  dimensions for each position. With one feature in a group, the transpose adds blocks of rows to
  one another before it reduces the one block that remains.
  """
  window, dtype = settings.window, settings.dtype
  depth, out = kernel.shape[-2:]
  taps = _taps(kernel)
  if depth > 1:
    pairs = zip(windows.shifts(x, window), taps, strict=True)
    products = (
      _product(view.reshape(view.size // depth, depth), tap, settings) for view, tap in pairs
    )
    return _sum(products).reshape(x.shape[0], *window.output, out)
  rows = window.output[0]
  blocks = max(n for n in range(1, 17) if rows % n == 0)
  block = (x.shape[0], rows // blocks, *window.output[1:], out)
  taps = lax.expand_dims(taps.astype(dtype)[:, 0], range(1, x.ndim))
  taps = jnp.broadcast_to(taps, (len(taps), *block))
  spread = lambda tap: jnp.concatenate([tap.reshape(block)] * blocks, 1)
  pairs = zip(windows.shifts(x, window), jnp.split(taps, len(taps)), strict=True)
  return _sum(view.astype(dtype) * spread(tap) for view, tap in pairs)


def _multiply_patches(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Multiplies the patches of an image of one feature, written out, with the kernels."""
  patches = jnp.concatenate(windows.shifts(x, settings.window), -1)
  taps = kernel.reshape(patches.shape[-1], kernel.shape[-1])
  return jnp.matmul(
    patches, taps, precision=settings.precision, preferred_element_type=settings.dtype
  )


def _convolve_groups(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Convolves each group by itself."""
  groups, one = settings.groups, dataclasses.replace(settings, groups=1)
  pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
  return jnp.concatenate([convolve(s, k, one) for s, k in pairs], -1)


def _convolve_planes(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Adds convolutions in two dimensions, one for each plane of a window in three."""
  window = settings.window
  depth = windows.along(window, 0, x.shape[1:-1])
  plane = dataclasses.replace(settings, window=windows.without(window, 0))
  flat = lambda view: view.reshape(view.shape[0] * view.shape[1], *view.shape[2:])
  pairs = zip(windows.shifts(x, depth), kernel, strict=True)
  y = _sum(convolve(flat(view), taps, plane) for view, taps in pairs)
  return y.reshape(x.shape[0], window.output[0], *y.shape[1:])


def _product(view: jax.Array, tap: jax.Array, settings: Settings) -> jax.Array:
  """Multiplies `view: [..., in]` with `tap: [in // groups, out]`, group by group."""
  groups, precision, dtype = settings.groups, settings.precision, settings.dtype
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


def stored(x: jax.Array) -> jax.Array:
  """Returns `x`. On CPU it is computed once: XLA:CPU recomputes sums and products for every use,
  but stores quotients."""
  once = lambda x: x / jnp.where(x == x, 1, jnp.nan)
  same = lambda x: x
  return linear(lambda x: lax.platform_dependent(x, cpu=once, default=same), same)(x)


def _taps(kernel: jax.Array) -> jax.Array:
  """Returns the kernel as `[positions of the window, in // groups, out]`."""
  return kernel.reshape(-1, *kernel.shape[-2:])


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
  return functools.reduce(operator.add, terms)
