"""The power that sharpens a similarity and keeps its sign."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.derivatives import differential

EPSILON = 1e-6


def sharpen(c: jax.Array, p: float | jax.Array) -> jax.Array:
  r"""Returns :math:`c\,(c^2 + \epsilon^2)^{(p-1)/2}`, the smooth form of `sign(c) |c|^p`.

  Args:
    c: `[..., out]`, float32 or float64.
    p: a Python number, or an array: scalar or `[out]`. Python numbers that are whole and at most 16
      are computed by multiplication.

  Returns:
    `[..., out]`, dtype of `c`. It is odd in `c`, and its derivatives are finite for `p > 0`.
  """
  square = c * c + EPSILON**2
  if isinstance(p, int | float) and float(p).is_integer() and p <= 16:
    pairs, odd = divmod(int(p) - 1, 2)
    return c * square**pairs * (jnp.sqrt(square) if odd else 1)
  if jnp.ndim(p):
    p = lax.expand_dims(p, range(c.ndim - 1))
  return _power(c, jnp.asarray(p, c.dtype))


@jax.custom_jvp
def _power(c: jax.Array, p: jax.Array) -> jax.Array:
  return c * jnp.exp((p - 1) / 2 * jnp.log(c * c + EPSILON**2))


@functools.partial(_power.defjvp, symbolic_zeros=True)
def _power_jvp(primals, tangents):
  """Writes the derivatives by hand, so that logarithm and exponential are computed only once."""
  (c, p), (dc, dp) = primals, tangents
  square = c * c + EPSILON**2
  log = jnp.log(square)
  factor = jnp.exp((p - 1) / 2 * log)
  y = c * factor
  in_c = lambda t: factor * (1 + (p - 1) * (c * c / square)) * t
  in_p = lambda t: y * log * (t / 2)
  return y, differential(y, (dc, in_c), (dp, in_p))


def unsharpen(y: jax.Array, p: jax.Array) -> jax.Array:
  r"""Returns :math:`y\,(|y|^{2/p} + \epsilon^2)^{(1-p)/2}`, the approximate inverse of `sharpen`.

  It is accurate where :math:`|c| \gg \epsilon` or :math:`|c| \ll \epsilon`. In between, the result
  is too small: by a factor of 0.7 at worst for p from 0.5 to 3, and 0.6 for p = 0.1. For large p
  the error is larger, but there y is too small for float32 anyway.

  Args:
    y: `[..., out]`, float32 or float64.
    p: an array, scalar or `[out]`.

  Returns:
    `[..., out]`, dtype of `y`.
  """
  if p.ndim:
    p = lax.expand_dims(p, range(y.ndim - 1))
  smallest = jnp.finfo(y.dtype).tiny
  square = jnp.exp(jnp.log(jnp.maximum(jnp.abs(y), smallest)) * (2 / p)) + EPSILON**2
  return y * jnp.exp((1 - p) / 2 * jnp.log(square))
