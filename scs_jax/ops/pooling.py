"""Absolute max pooling: the value of largest magnitude survives, sign included."""

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

  The opposite of a feature is a feature too, so `-0.9` beats `0.5`. A tie between `a` and `-a`
  goes to the positive value, and the gradient goes to one element: the first of the winners in
  row-major order. Padding never wins; a window that sees nothing but padding gives 0. NaN is kept.

  Args:
    x: `[batch, *spatial, features]`, floating; one to three spatial dimensions.
    window_shape: size of the window, one for each spatial dimension, or an integer for all.
    strides: step of the window, like `window_shape`; None is 1, as in `flax.nnx.max_pool`.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.

  Returns:
    `[batch, *spatial', features]`, dtype of `x`.

  Raises:
    ValueError: naming the argument, its value and what would be right.

  References:
    Pisoni, 2022: Sharpened Cosine Similarity: Part 2.

  Example:
    >>> x = jnp.array([1.0, -3.0, 2.0, 2.0]).reshape(1, 4, 1)
    >>> scs_jax.abs_max_pool(x, (2,), (2,)).ravel()
    Array([-3.,  2.], dtype=float32)
  """
  x = arguments.as_floating('x', x)
  window = arguments.resolve_window(
    arguments.check_images(x),
    window_shape,
    1 if strides is None else strides,
    padding,
    shape_name='window_shape',
  )
  # One dimension after the other, the last first: among equals the first in row-major order stays.
  best, largest = x, jnp.abs(x)
  for dimension in reversed(range(len(window.shape))):
    line = windows.along(window, dimension, best.shape[1:-1])
    values = windows.shifts(best, line)
    magnitudes = windows.shifts(largest, line, fill=-1)  # below every magnitude
    best, largest = values[0], magnitudes[0]
    for value, magnitude in zip(values[1:], magnitudes[1:], strict=True):
      wins = (magnitude > largest) | ((magnitude == largest) & (value > best)) | jnp.isnan(value)
      best, largest = jnp.where(wins, value, best), jnp.where(wins, magnitude, largest)
  return best
