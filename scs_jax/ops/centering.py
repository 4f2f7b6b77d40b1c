r"""Centring: patches and kernels without their means, for Pearson's correlation.

The mean of a patch is never subtracted from the patch. The mean of a centred kernel :math:`\bar k`
is 0, so :math:`(s - \mu)\cdot\bar k = s\cdot\bar k` in exact arithmetic. In floating point a large
:math:`\mu` costs this product its digits, so the mean of the image is subtracted first.

Of a patch only the norm :math:`\|s - \mu\|` is needed. Its textbook form
:math:`\sum s^2 - (\sum s)^2 / n` cancels where a patch is nearly flat. Sums of squared deviations
are merged instead. Means and deviations are taken of differences to one of the
values: the mean of equal values is then exact, and what is flat becomes 0 to the last bit.
"""

import functools
import math
import operator
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import cpu, windows
from scs_jax.ops.arguments import Window
from scs_jax.ops.derivatives import quotient
from scs_jax.ops.scaling import in_units_of, power_of_two, root, sum_of_squares


def centered_patches(
  x: jax.Array, window: Window, groups: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array, jax.Array]:
  r"""Returns images whose patches need no centring any more, and the norms of centred patches.

  From each image its mean in each group is subtracted. Zero padding then stands for this mean, so
  an offset changes no patch, not even at the border.

  The norms: if parts of `n` values each have means :math:`m_i` and sums of squared deviations
  :math:`d_i`, the whole has the mean :math:`m` of the :math:`m_i` and the sum
  :math:`\sum d_i + n \sum (m_i - m)^2`. The parts are first the features of a pixel, then pixels
  along one dimension, and so on. Beyond the features, only two numbers for each pixel and group
  slide.

  Args:
    x: `[batch, *spatial, in]`.
    window: the resolved window.
    groups: number of groups that the features are split into.
    dtype: of means, norms and powers.

  Returns:
    The images `[batch, *spatial, in]`, dtype of `x`; the norms `[batch, *output, groups]`; and the
    powers of two in whose units both are, `[batch, *ones, groups]`.
  """
  features = x.shape[-1] // groups
  spatial = range(1, x.ndim - 1)
  spread = functools.partial(windows.to_kernels, out=x.shape[-1])  # from groups to features
  add = functools.partial(windows.sum_features, groups=groups)

  @jax.custom_jvp
  def center(x: jax.Array) -> tuple[jax.Array, ...]:
    s = x.astype(dtype)
    first = s[..., ::features]  # of each pixel and group
    if features == 1:
      lift = jnp.zeros_like(first)
      sums = sum_of_squares(lift, lambda squares: squares)
    else:
      above = s - spread(first)
      lift, sums = add(above) / features, sum_of_squares(above, add)
    base = _first(first, spatial)
    high, low = _sum_of_two(base, (first - base + lift).mean(spatial, keepdims=True))
    mean = (first - high) - low + lift  # of each pixel, without that of the image
    unit = power_of_two(jnp.abs(mean) + root(sums), spatial)
    if x.dtype == jnp.float16:  # Enlarged images would have gradients that are out of range.
      unit = jnp.maximum(unit, 1)
    inverse = 1 / unit
    s = ((s - spread(high)) - spread(low)) * spread(inverse)
    squares = in_units_of(unit, sums) - features * jnp.square(lift * inverse)
    norm, mean = _over_windows(mean * inverse, squares, window, features)
    return cpu.stored(s.astype(x.dtype)), norm, unit, mean

  @center.defjvp
  def rule(primals, tangents):
    (x,), (dx,) = primals, tangents
    s, norm, unit, mean = center(x)
    change = dx.astype(dtype) * spread(1 / unit)
    if any(map(any, window.padding)):  # Else the mean of the image cancels in every patch.
      change -= spread(add(change).mean(spatial, keepdims=True) / features)
    total = windows.padded_window_sum(add(change), window)
    product = windows.padded_window_sum(add(s.astype(dtype) * change), window)
    number = features * math.prod(window.shape)
    of_norm = quotient(product - mean * total, norm)
    return (s, norm, unit, mean), (
      change.astype(x.dtype),
      of_norm,
      jnp.zeros_like(unit),
      total / number,
    )

  s, norm, unit, _ = center(x)
  return s, norm, unit


def _over_windows(
  mean: jax.Array, squares: jax.Array, window: Window, count: int
) -> tuple[jax.Array, jax.Array]:
  """Returns norm and mean of every centred patch.

  Args:
    mean: of each pixel, `[batch, *spatial, groups]`; zeros are outside.
    squares: sums of squared deviations from these means.
    window: the resolved window.
    count: values in a pixel.
  """
  for dimension, size in enumerate(window.shape):
    line = windows.along(window, dimension, mean.shape[1:-1])
    means, parts = windows.shifts(mean, line), windows.shifts(squares, line)
    differences = [m - means[0] for m in means]
    total = _sum(differences)
    between = _sum(map(jnp.square, differences)) - jnp.square(total) / size
    mean, squares = means[0] + total / size, _sum(parts) + count * between
    count *= size
  return jnp.sqrt(jnp.maximum(squares, 0)), mean


def deviations(x: jax.Array, axes: Sequence[int]) -> jax.Array:
  """Returns `x` minus its mean along `axes`; equal values give exactly 0."""
  base = _first(x, axes)
  high, low = _sum_of_two(base, (x - base).mean(axes, keepdims=True))
  return (x - high) - low


def _first(x: jax.Array, axes: Sequence[int]) -> jax.Array:
  """Returns the first value along `axes`, which it keeps, as a constant.

  A mean is taken of differences to it, and does not depend on it.
  """
  for axis in axes:
    x = lax.slice_in_dim(x, 0, 1, axis=axis)
  return lax.stop_gradient(x)


def _sum_of_two(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the rounded sum, and what rounding has lost of it."""
  high = a + b
  return high, (a - high) + b


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
  return functools.reduce(operator.add, terms)
