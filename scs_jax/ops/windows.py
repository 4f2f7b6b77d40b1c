"""Sliding windows: shifted images, window sums, and the norm of every patch."""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.arguments import Window
from scs_jax.ops.derivatives import linear, quotient
from scs_jax.ops.scaling import in_units_of, power_of_two, root, sum_of_squares


def shifts(x: jax.Array, window: Window, fill: float = 0) -> list[jax.Array]:
  """Returns one strided view of the padded image for each position of the window.

  Args:
    x: `[batch, *spatial, features]`.
    window: the resolved window.
    fill: value of the padding.

  Returns:
    One `[batch, *output, features]` for each position of the window, in row-major order. Entry `i`
    holds what every placement of the window sees at position `i`.
  """
  pads = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
  views = [lax.pad(x, jnp.asarray(fill, x.dtype), pads)]
  for dimension in range(len(window.shape)):
    views = [tap for view in views for tap in _slices(view, dimension, window)]
  return views


def _slices(x: jax.Array, dimension: int, window: Window) -> list[jax.Array]:
  """Slices spatial `dimension` of the padded `x` once for each window position along it."""
  stride, dilation = window.strides[dimension], window.dilation[dimension]
  span = (window.output[dimension] - 1) * stride + 1
  starts = [i * dilation for i in range(window.shape[dimension])]
  return [lax.slice_in_dim(x, s, s + span, stride, axis=dimension + 1) for s in starts]


def overlap_add(terms: Sequence[jax.Array], window: Window) -> jax.Array:
  """Returns the sum over the window positions of `shifts(term)[position]`.

  If every term is the same image, the result is `sum(shifts(image))`. Here the images are shifted
  by padding instead of slicing, so the transpose consists of slices.

  Args:
    terms: one `[batch, *spatial, features]` for each position of the window, in row-major order.
    window: the resolved window.

  Returns:
    `[batch, *output, features]`.
  """
  sizes = list(zip(window.shape, window.dilation, strict=True))
  zero = jnp.zeros((), terms[0].dtype)

  def place(term, position):
    # All terms are aligned to the last position of the window: earlier ones move further.
    pads = [((w - 1 - i) * d, i * d, 0) for (w, d), i in zip(sizes, position, strict=True)]
    return lax.pad(term, zero, [(0, 0, 0), *pads, (0, 0, 0)])

  pairs = zip(terms, itertools.product(*map(range, window.shape)), strict=True)
  total = functools.reduce(operator.add, itertools.starmap(place, pairs))
  edges = [
    (low - (w - 1) * d, high - (w - 1) * d, 0)
    for (low, high), (w, d) in zip(window.padding, sizes, strict=True)
  ]
  total = lax.pad(total, zero, [(0, 0, 0), *edges, (0, 0, 0)])
  for dimension, (size, stride) in enumerate(zip(window.output, window.strides, strict=True), 1):
    total = lax.slice_in_dim(total, 0, (size - 1) * stride + 1, stride, axis=dimension)
  return total


def window_sum(x: jax.Array, window: Window) -> jax.Array:
  """Returns the sum of `x: [batch, *spatial, features]` over every window, with zero padding.

  A box window is separable, so the sum runs over one dimension after the other. It uses additions
  only, so that a window of zeros sums to exactly 0. A running sum with subtractions would not.
  """

  def add(x):
    for dimension in range(len(window.shape)):
      x = functools.reduce(operator.add, shifts(x, along(window, dimension, x.shape[1:-1])))
    return x

  return linear(add, functools.partial(padded_window_sum, window=window))(x)


def padded_window_sum(x: jax.Array, window: Window) -> jax.Array:
  """Equals `window_sum`. Its transpose is the faster one: it consists of slices."""
  for dimension in range(len(window.shape)):
    line = along(window, dimension, x.shape[1:-1])
    x = overlap_add([x] * math.prod(line.shape), line)
  return x


def along(window: Window, dimension: int, spatial: tuple[int, ...]) -> Window:
  """Returns `window` restricted to one dimension of an image of size `spatial`.

  In all other dimensions the result has size and stride 1 and no padding.
  """
  still = Window(
    (1,) * len(spatial), (1,) * len(spatial), ((0, 0),) * len(spatial), (1,) * len(spatial), spatial
  )
  entries = zip(dataclasses.astuple(window), dataclasses.astuple(still), strict=True)
  return Window(
    *(
      tuple(w if i == dimension else s for i, (w, s) in enumerate(zip(*pair, strict=True)))
      for pair in entries
    )
  )


def without(window: Window, dimension: int) -> Window:
  """Returns `window` without one of its dimensions."""
  fields = dataclasses.astuple(window)
  return Window(*(field[:dimension] + field[dimension + 1 :] for field in fields))


def to_kernels(x: jax.Array, out: int) -> jax.Array:
  """Repeats the value of each group for its kernels: `[..., groups]` to `[..., out]`.

  One group stays `[..., 1]`, which broadcasts.
  """
  groups = x.shape[-1]
  if groups in (1, out):
    return x
  # Equals jnp.repeat. XLA:CPU stores the result of this concatenation once; it would recompute
  # that of jnp.repeat for every use.
  return jnp.stack([x] * (out // groups), -1).reshape(*x.shape[:-1], out)


def patch_norms(x: jax.Array, window: Window, groups: int, dtype: jnp.dtype) -> jax.Array:
  """Returns the Euclidean norm of every patch in each group: `[batch, *output, groups]`.

  Squares are summed over the features of a group first. The window then slides over one number for
  each group instead of `in // groups` numbers. These numbers are in units of a power of two for
  each image and group, so that their sums are in the range of `dtype`. Values that are less than
  1e-18 of the largest (in float64 1e-150) do not count.
  """
  spatial = range(1, x.ndim - 1)

  @jax.custom_jvp
  def norm_and_unit(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    if groups == x.shape[-1]:
      unit = power_of_two(x, spatial)
      squares = jnp.square(x * (1 / unit))
    else:
      sums = sum_of_squares(x, functools.partial(sum_features, groups=groups))
      unit = power_of_two(root(sums), spatial)
      squares = in_units_of(unit, sums)
    return jnp.sqrt(window_sum(squares, window)) * unit, unit

  @norm_and_unit.defjvp
  def rule(primals, tangents):
    (x,), (dx,) = primals, tangents
    norm, unit = norm_and_unit(x)
    inverse = 1 / unit
    products = sum_features(x * to_kernels(inverse, x.shape[-1]) * dx, groups)
    change = quotient(padded_window_sum(products, window), norm * inverse)
    return (norm, unit), (change, jnp.zeros_like(unit))

  return norm_and_unit(x.astype(dtype))[0]


def sum_features(x: jax.Array, groups: int) -> jax.Array:
  """Returns the sums over the features of each group: `[..., in]` to `[..., groups]`."""
  if groups == 1:  # Equals the reshape below; XLA:CPU loops slowly over its extra dimension.
    return x.sum(-1, keepdims=True)
  if groups == x.shape[-1]:
    return x
  return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups).sum(-1)
