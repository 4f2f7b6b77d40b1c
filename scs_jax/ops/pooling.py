"""Absolute max pooling: keeps the value of largest magnitude, with its sign."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from scs_jax.ops import arguments, windows


def abs_max_pool(
  x: jax.Array,
  window_shape: int | Sequence[int],
  strides: int | Sequence[int] | None = None,
  padding: arguments.Padding = 'VALID',
) -> jax.Array:
  """Keeps the value of largest magnitude in every window; **`strides=None` is stride 1**.

  The sign of a feature carries meaning, so `-0.9` beats `0.5`. In a tie between `a` and `-a` the
  positive value wins. The gradient goes to one element, the first winner in row-major order.
  Padding never wins, and a window that sees only padding gives 0. A window with a NaN gives NaN.

  Args:
    x: `[*batch, *spatial, features]`, floating, with any number of batch dimensions, or none.
    window_shape: size of the window: one to three entries, one for each spatial dimension. For `x`
      with four dimensions an integer means a square window, with one batch dimension.
    strides: step of the window, like `window_shape`; an integer counts for all dimensions. None is
      1, as in `flax.nnx.max_pool`.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.

  Returns:
    `[*batch, *spatial', features]`, dtype of `x`.

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.

  References:
    Pisoni, 2022: Sharpened Cosine Similarity: Part 2.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> x = jnp.array([1.0, -3.0, 2.0, 2.0]).reshape(1, 4, 1)
    >>> scs_jax.abs_max_pool(x, (2,), (2,)).ravel()
    Array([-3.,  2.], dtype=float32)
  """
  x = arguments.as_floating('x', x)
  rank = arguments.pooled_rank(x, window_shape)
  batch, image = x.shape[: x.ndim - rank - 1], x.shape[x.ndim - rank - 1 :]
  x = x if len(batch) == 1 else x.reshape(math.prod(batch), *image)
  window = arguments.resolve_window(
    image[:-1],
    window_shape,
    strides,
    padding,
    shape_name='window_shape',
  )
  # Pools along one dimension after the other. The last comes first: of equal values, the first in
  # row-major order then wins.
  best, largest = x, jnp.abs(x)
  for dimension in reversed(range(len(window.shape))):
    line = windows.along(window, dimension, best.shape[1:-1])
    values = windows.shifts(best, line)
    magnitudes = windows.shifts(largest, line, fill=-1)  # Padding is below every magnitude.
    best, largest = values[0], magnitudes[0]
    for value, magnitude in zip(values[1:], magnitudes[1:], strict=True):
      wins = (magnitude > largest) | ((magnitude == largest) & (value > best)) | jnp.isnan(value)
      best, largest = jnp.where(wins, value, best), jnp.where(wins, magnitude, largest)
  return best if len(batch) == 1 else best.reshape(*batch, *best.shape[1:])
