"""Sliding windows: shifted images, window sums, and the norm of every patch."""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.arguments import Window
from scs_jax.ops.transposes import linear


def shifts(x: jax.Array, window: Window, fill: float = 0) -> list[jax.Array]:
  """Returns, for each position in the window, the values that all placements have there.

  Args:
    x: `[batch, *spatial, features]`.
    window: the resolved window.
    fill: value of the padding.

  Returns:
    One `[batch, *output, features]` for each position, in row-major order.
  """
  views = [lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *_edges(window), (0, 0, 0)])]
  for dimension in range(len(window.shape)):
    views = [tap for view in views for tap in _taps(view, dimension, window)]
  return views


def overlap_add(terms: Sequence[jax.Array], window: Window) -> jax.Array:
  """Returns, for each placement of the window, the sum of what each position sees of its term.

  If all `terms` are one image this equals `sum(shifts(image))`. Here the image is shifted by
  padding instead of slicing, so the transpose is made of slices.

  Args:
    terms: one `[batch, *spatial, features]` for each position, in row-major order.
    window: the resolved window.

  Returns:
    `[batch, *output, features]`.
  """
  sizes = list(zip(window.shape, window.dilation, strict=True))
  zero = jnp.zeros((), terms[0].dtype)
  total: Any = None
  for term, position in zip(terms, itertools.product(*map(range, window.shape)), strict=True):
    # A term is placed for the last position of the window; terms of earlier positions move right.
    pads = [((w - 1 - i) * d, i * d, 0) for (w, d), i in zip(sizes, position, strict=True)]
    placed = lax.pad(term, zero, [(0, 0, 0), *pads, (0, 0, 0)])
    total = placed if total is None else total + placed
  edges = [
    (low - (w - 1) * d, high - (w - 1) * d, 0)
    for (low, high), (w, d) in zip(window.padding, sizes, strict=True)
  ]
  total = lax.pad(total, zero, [(0, 0, 0), *edges, (0, 0, 0)])
  for dimension, (size, stride) in enumerate(zip(window.output, window.strides, strict=True), 1):
    total = lax.slice_in_dim(total, 0, (size - 1) * stride + 1, stride, axis=dimension)
  return total


def window_sum(x: jax.Array, window: Window) -> jax.Array:
  """Returns the sum of `x: [batch, *spatial, features]` over every window, zeros outside.

  Box windows are separable, so each dimension is summed separately. There are only additions: a
  window of zeros sums to exactly 0, which a running sum with subtractions does not guarantee.
  """
  for dimension in range(len(window.shape)):
    x = _sum_along(x, along(window, dimension, x.shape[1:-1]))
  return x


def _sum_along(x, line):
  add = lambda x: functools.reduce(operator.add, shifts(x, line))
  overlap = lambda x: overlap_add([x] * math.prod(line.shape), line)
  return linear(add, overlap)(x)


def along(window: Window, dimension: int, spatial: tuple[int, ...]) -> Window:
  """Returns `window` along one dimension of an image of size `spatial`, and 1 in the others."""
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


def _edges(window: Window) -> list[tuple[int, int, int]]:
  return [(low, high, 0) for low, high in window.padding]


def _taps(x: jax.Array, dimension: int, window: Window) -> list[jax.Array]:
  """Slices spatial `dimension` of the padded `x` once for each position of the window in it."""
  stride, dilation = window.strides[dimension], window.dilation[dimension]
  span = (window.output[dimension] - 1) * stride + 1
  starts = [i * dilation for i in range(window.shape[dimension])]
  return [lax.slice_in_dim(x, s, s + span, stride, axis=dimension + 1) for s in starts]


def to_kernels(x: jax.Array, out: int) -> jax.Array:
  """Gives every kernel the value of its group: `[..., groups]` to `[..., out]`, or `[..., 1]`."""
  groups = x.shape[-1]
  if groups in (1, out):
    return x
  # Equals jnp.repeat, but XLA:CPU materialises it once instead of repeating for every use.
  return jnp.stack([x] * (out // groups), -1).reshape(*x.shape[:-1], out)


def patch_norms(x: jax.Array, window: Window, groups: int, dtype: jnp.dtype) -> jax.Array:
  """Returns the Euclidean norm of every patch in each group: `[batch, *output, groups]`.

  The squares are summed over the features first, so the window slides over one value per group
  instead of `in // groups`.
  """
  squares = jnp.square(x.astype(dtype))
  if groups == 1:  # XLA:CPU is slow with the extra dimension of the general form
    squares = squares.sum(-1, keepdims=True)
  elif groups < x.shape[-1]:
    squares = squares.reshape(*x.shape[:-1], groups, x.shape[-1] // groups).sum(-1)
  return safe_sqrt(window_sum(squares, window))


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
  """Returns `sqrt(x)` for `x >= 0`, whose derivatives at 0 are 0 instead of infinite."""
  return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals, tangents):
  y, (dx,) = safe_sqrt(*primals), tangents
  # XLA recomputes cheap expressions for every use and keeps roots and quotients. Therefore
  # everything is computed from y, and the quotient comes first, which is last in the transpose.
  positive = y > 0
  return y, jnp.where(positive, dx / jnp.where(positive, 2 * y, 1), 0)
