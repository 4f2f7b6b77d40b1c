"""The power that sharpens a similarity and keeps its sign."""

import jax
import jax.numpy as jnp

EPSILON = 1e-6


def sharpen(c: jax.Array, p: float | jax.Array) -> jax.Array:
  r"""Returns :math:`c\,(c^2 + \epsilon^2)^{(p-1)/2}`, the smooth form of `sign(c) |c|^p`.

  Args:
    c: `[..., out]`, float32 or float64.
    p: a Python number, or an array: scalar or `[out]`. A whole Python number is computed by
      multiplication.

  Returns:
    `[..., out]`, dtype of `c`; odd in `c`, with finite derivatives everywhere for `p > 0`.
  """
  square = c * c + EPSILON**2
  if isinstance(p, int | float) and float(p).is_integer() and p <= 16:
    pairs, odd = divmod(int(p) - 1, 2)
    return c * square**pairs * (jnp.sqrt(square) if odd else 1)
  if isinstance(p, jax.Array) and p.ndim:
    p = jnp.reshape(p, (1,) * (c.ndim - 1) + (-1,))
  return c * jnp.exp((p - 1) / 2 * jnp.log(square))
