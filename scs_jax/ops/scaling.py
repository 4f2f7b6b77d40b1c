"""Squares of values whose squares do not fit in their dtype.

Only values between 1e-19 and 1e19 have a square in float32. Sums of squares are therefore taken
three times: of values multiplied by a large power of two, of the values themselves, and of values
multiplied by a small power of two (Blue, 1978: A Portable Fortran Program to Find the Euclidean
Norm of a Vector). One of the three is right. Multiplying by a power of two is exact, so it equals
the plain sum to the last bit wherever that is right.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.derivatives import safe_sqrt

Sums = tuple[jax.Array, ...]  # of the squares of enlarged, of plain and of reduced values


def sum_of_squares(x: jax.Array, total: Callable[[jax.Array], jax.Array]) -> Sums:
  """Returns the sums of the squares of `x`, for `root` and `in_units_of`; `total` adds them up."""
  return tuple(total(jnp.square(x * factor)) for factor in _factors(x.dtype))


def root(sums: Sums) -> jax.Array:
  """Returns the square root of the sum: the norm of the values."""
  factors = _factors(sums[0].dtype)
  return _right_one(sums, *(jnp.sqrt(s) / factor for s, factor in zip(sums, factors, strict=True)))


def in_units_of(unit: jax.Array, sums: Sums) -> jax.Array:
  """Returns the sum divided by `unit ** 2`; `unit` is a power of two."""
  factors = (1 / (unit * factor) for factor in _factors(unit.dtype))
  return _right_one(sums, *(s * factor * factor for s, factor in zip(sums, factors, strict=True)))


def power_of_two(x: jax.Array, axes: Sequence[int]) -> jax.Array:
  """Returns a power of two near the largest magnitude of `x` along `axes`, which it keeps.

  Dividing by it and multiplying by it are exact. It is 1 where all values are 0 or one of them is
  not finite. Derivatives treat it as a constant.

  Args:
    x: floating.
    axes: dimensions that share one power.
  """
  limits = jnp.finfo(x.dtype)
  largest = jnp.abs(lax.stop_gradient(x)).max(tuple(axes), keepdims=True)
  nearest = lax.reduce_precision(largest, exponent_bits=limits.nexp, mantissa_bits=0)
  # In float32 from 2^-96 to 2^96: far enough for all squares, and inverses are in range too.
  most = 2.0 ** (limits.maxexp * 3 // 4)
  return jnp.where((largest > 0) & (largest < jnp.inf), jnp.clip(nearest, 1 / most, most), 1)


def norm(x: jax.Array, axis: int) -> jax.Array:
  """Returns the Euclidean norm along `axis`, right also where squares are not in range."""
  unit = power_of_two(x, (axis,))
  squares = jnp.square(x * (1 / unit)).sum(axis)
  return safe_sqrt(squares) * unit.reshape(squares.shape)


def in_own_units(x: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns vectors and their lengths, both in units of powers of two, so that squares fit.

  Args:
    x: vectors, `[..., features]`.
    q: added to their norms, `[...]`.

  Returns:
    Vectors `[..., features]`, and norms plus q `[...]`.
  """
  unit = power_of_two(x, (x.ndim - 1,))
  x = x * (1 / unit)
  return x, safe_sqrt(jnp.square(x).sum(-1)) + q / unit[..., 0]


def _factors(dtype: jnp.dtype) -> tuple[float, float, float]:
  """In float32 2^78, 1 and 2^-66: the sums are right for norms up to 2^-14, 2^64 and 2^128."""
  exponents = jnp.finfo(dtype).maxexp
  return 2.0 ** (exponents * 39 // 64), 1.0, 2.0 ** -(exponents * 33 // 64)


def _right_one(
  sums: Sums, of_enlarged: jax.Array, of_plain: jax.Array, of_reduced: jax.Array
) -> jax.Array:
  enlarged, plain, _ = sums
  of_others = jnp.where(plain < jnp.inf, of_plain, of_reduced)
  return jnp.where(enlarged < jnp.inf, of_enlarged, of_others)
