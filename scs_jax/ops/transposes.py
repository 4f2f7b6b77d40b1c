"""Linear functions whose transpose is written apart from them.

Reverse mode transposes the derivative of a function, operation by operation, and what is fast
forward need not be fast transposed: a sum of slices becomes a sum of padded arrays. A function made
here has one expression for its value and others for its derivative, equal to it in exact
arithmetic, which are chosen for what their transpose looks like. All are plain JAX, so that
forward mode, second derivatives, vmap and sharding need nothing else.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

Linear = Callable[[jax.Array], jax.Array]
Bilinear = Callable[[jax.Array, jax.Array], jax.Array]


def linear(forward: Linear, derivative: Linear) -> Linear:
  """Returns the linear function `forward`, differentiated through `derivative`, its equal."""
  function = jax.custom_jvp(forward)
  function.defjvp(lambda primals, tangents: (function(*primals), derivative(*tangents)))
  return function


def bilinear(forward: Bilinear, for_first: Bilinear, for_second: Bilinear) -> Bilinear:
  """Returns the bilinear function `forward`, differentiated through its two equals.

  The transpose of `for_first` in its first argument gives the gradient of the first argument, that
  of `for_second` in its second argument the gradient of the second.
  """
  function = jax.custom_jvp(forward)

  def rule(primals, tangents):
    (a, b), (da, db) = primals, tangents
    y = function(a, b)
    terms = []  # an argument that is not differentiated costs nothing
    if not isinstance(da, SymbolicZero):
      terms.append(for_first(da, b))
    if not isinstance(db, SymbolicZero):
      terms.append(for_second(a, db))
    return y, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(y)

  function.defjvp(rule, symbolic_zeros=True)
  return function
