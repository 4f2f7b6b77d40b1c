r"""Centring: patches and kernels without their means, for Pearson's correlation.

The mean of a patch is never subtracted from the patch. The mean of a centred kernel :math:`\bar k`
is 0, so :math:`(s - \mu)\cdot\bar k = s\cdot\bar k` in exact arithmetic. In floating point this
product loses what a large :math:`\mu` leaves of its digits. Images are therefore shifted first, by
their own mean in each group. Of the patch only the norm :math:`\|s - \mu\|` is needed. The textbook
form :math:`\sum s^2 - (\sum s)^2 / n` cancels on flat patches. `patch_deviations` merges means and
squares of deviations instead; it adds only positive terms.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import windows
from scs_jax.ops.arguments import Window
from scs_jax.ops.derivatives import safe_sqrt


def shifted(x: jax.Array, groups: int, dtype: jnp.dtype) -> jax.Array:
  """Returns the images minus their own means in each group.

  Zero padding then stands for the mean of the image, so an offset changes no patch, not even at the
  border.

  Args:
    x: `[batch, *spatial, in]`.
    groups: number of groups that the features are split into.
    dtype: of means and differences.

  Returns:
    `[batch, *spatial, in]`, dtype of `x`.
  """
  s, axes = _by_group(x.astype(dtype), groups), (*range(1, x.ndim - 1), -1)
  s = s - _first(axes, s)  # small numbers, so that rounding their mean loses little
  return (s - s.mean(axes, keepdims=True)).reshape(x.shape).astype(x.dtype)


def centered_kernel(kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Returns the kernels minus their means: `[*window, in // groups, out]`, dtype of `kernel`."""
  k = kernel.astype(dtype)
  return (k - k.mean(range(k.ndim - 1), keepdims=True)).astype(kernel.dtype)


def patch_deviations(x: jax.Array, window: Window, groups: int, dtype: jnp.dtype) -> jax.Array:
  r"""Returns the norm of every centred patch in each group: `[batch, *output, groups]`.

  The squares are merged dimension by dimension: if parts of `n` values each have means
  :math:`m_i` and squares of deviations :math:`d_i`, the whole has the mean :math:`m` of the
  :math:`m_i` and the squares :math:`\sum d_i + n \sum (m_i - m)^2`. The parts are first the
  features of a pixel, then pixels along one dimension, and so on. Beyond the features, only two
  numbers for each pixel and group slide.

  Args:
    x: `[batch, *spatial, in]`; zeros are outside.
    window: the resolved window.
    groups: number of groups that the features are split into.
    dtype: of the result.
  """
  s = _by_group(x.astype(dtype), groups)
  mean, squares, count = s, None, s.shape[-1]
  if count > 1:
    first = _first((-1,), s)
    mean = first + (s - first).mean(-1, keepdims=True)
    squares = jnp.square(s - mean).sum(-1)
  mean = mean[..., 0] if groups > 1 else mean
  squares = squares if groups > 1 or squares is None else squares[..., None]
  for dimension, size in enumerate(window.shape):
    line = windows.along(window, dimension, mean.shape[1:-1])
    means = windows.shifts(mean, line)
    first = lax.stop_gradient(means[0])
    mean = first + functools.reduce(operator.add, (m - first for m in means)) / size
    between = functools.reduce(operator.add, (jnp.square(m - mean) for m in means)) * count
    squares = between if squares is None else windows.sum_along(squares, line) + between
    count *= size
  return safe_sqrt(squares)


def _by_group(x: jax.Array, groups: int) -> jax.Array:
  """Returns `[batch, *spatial, groups, in // groups]`, or `x` itself for one group."""
  return x if groups == 1 else x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _first(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
  """Returns the first values along `axes`, which it keeps, as a constant.

  A mean is taken of the differences to them, so that the mean of equal values is exact. It does not
  depend on which value is subtracted, so neither do derivatives.
  """
  for axis in axes:
    x = lax.slice_in_dim(x, 0, 1, axis=axis)
  return lax.stop_gradient(x)
