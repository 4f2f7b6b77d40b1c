"""Linear functions whose transpose is written apart from them.

Reverse mode transposes the derivative of a function, operation by operation, and what is fast
forward need not be fast transposed: a sum of slices becomes a sum of padded arrays. A function made
here has one expression for its value and others for its derivative, equal to it in exact
arithmetic, which are chosen for what their transpose looks like. All are plain JAX, so that
forward mode, second derivatives, vmap and sharding need nothing else.
"""

import functools
import operator
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
    return y, differential(y, (da, lambda t: for_first(t, b)), (db, lambda t: for_second(a, t)))

  function.defjvp(rule, symbolic_zeros=True)
  return function


def differential(y: jax.Array, *terms: tuple[jax.Array | SymbolicZero, Linear]) -> jax.Array:
  """Returns the tangent of `y`: the sum over pairs of a tangent and the function it goes through.

  An argument that is not differentiated, whose tangent is a symbolic zero, costs nothing.
  """
  live = [function(t) for t, function in terms if not isinstance(t, SymbolicZero)]
  return functools.reduce(operator.add, live) if live else jnp.zeros_like(y)
