"""Functions whose derivative is written by hand.

There are four reasons to write one:

- `safe_sqrt` and `quotient` have finite derivatives at 0, and `bounded` passes the gradient where
  it clips.
- `linear` and `bilinear` give a fast transpose. The one that JAX derives can be slow: a sum of
  slices becomes a sum of padded arrays. They take one expression for the value and others, equal in
  exact arithmetic, for the derivatives.
- `limit_slope` keeps derivatives in the range of float16.
- `differentiated_at` saves memory: arguments are recovered from the output instead of stored.

All derivatives are written in plain JAX, so forward mode, second derivatives, vmap and sharding
work without further code.
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
  """Returns the linear function `forward`, differentiated through the equal `derivative`."""
  function = jax.custom_jvp(forward)
  function.defjvp(lambda primals, tangents: (function(*primals), derivative(*tangents)))
  return function


def bilinear(forward: Bilinear, for_first: Bilinear, for_second: Bilinear) -> Bilinear:
  """Returns the bilinear function `forward`, differentiated through two equal functions.

  Reverse mode transposes `for_first` to compute the gradient of the first argument, and
  `for_second` to compute the gradient of the second.
  """
  function = jax.custom_jvp(forward)

  def rule(primals, tangents):
    (a, b), (da, db) = primals, tangents
    y = function(a, b)
    return y, differential(y, (da, lambda t: for_first(t, b)), (db, lambda t: for_second(a, t)))

  function.defjvp(rule, symbolic_zeros=True)
  return function


def differential(y: jax.Array, *terms: tuple[jax.Array | SymbolicZero, Linear]) -> jax.Array:
  """Returns the tangent of `y`.

  Args:
    y: the value; only its shape and dtype are used.
    *terms: one pair for each argument of the function that computed `y`: the tangent of the
      argument, and the linear function that maps it to its share of the tangent of `y`. A symbolic
      zero marks an argument that is not differentiated, and its function is not called.
  """
  live = [function(t) for t, function in terms if not isinstance(t, SymbolicZero)]
  return functools.reduce(operator.add, live) if live else jnp.zeros_like(y)


def differentiated_at(
  function: Callable[..., jax.Array], point: Callable[..., tuple[jax.Array, ...]]
) -> Callable[..., jax.Array]:
  """Returns `function`, differentiated at another point than its arguments.

  Args:
    function: a function of arrays.
    point: maps the output of `function` and its arguments to the arguments at which the derivative
      is taken. An argument that `point` recovers from the output need not be stored for the
      backward pass.
  """
  wrapped = jax.custom_jvp(function)

  def rule(primals, tangents):
    y = wrapped(*primals)
    arguments = point(y, *primals)
    live = [not isinstance(tangent, SymbolicZero) for tangent in tangents]
    if not any(live):
      return y, jnp.zeros_like(y)

    def of_live(*values):
      values = iter(values)
      return function(*(next(values) if on else a for on, a in zip(live, arguments, strict=True)))

    at, direction = (
      [v for on, v in zip(live, values, strict=True) if on] for values in (arguments, tangents)
    )
    return y, jax.jvp(of_live, at, direction)[1]

  wrapped.defjvp(rule, symbolic_zeros=True)
  return wrapped


def limit_slope(function: Callable[..., jax.Array], dtype: jnp.dtype) -> Callable[..., jax.Array]:
  """Returns `function`; for float16 its derivative by the first argument is at most 1024.

  The slope of a similarity is large where patch or similarity are 0: 1 / q, or 1e6 if p is near 0.
  Beyond 65504 it is infinite in float16, and infinity times 0 is not a number.

  Args:
    function: elementwise in its first argument, which has the shape of the result.
    dtype: of the arrays that gradients are passed on in.
  """
  if dtype != jnp.float16:
    return function
  wrapped = jax.custom_jvp(function)

  def rule(primals, tangents):
    (first, *others), (along_first, *along_others) = primals, tangents
    y, slope = jax.jvp(lambda first: function(first, *others), (first,), (jnp.ones_like(first),))
    change = jax.jvp(lambda *others: function(first, *others), others, along_others)[1]
    slope = jnp.clip(slope.astype(first.dtype), -1024, 1024)
    return y, (slope * along_first + change.astype(first.dtype)).astype(y.dtype)

  wrapped.defjvp(rule)
  return wrapped


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
  """Returns `sqrt(x)` for `x >= 0`; its derivatives at 0 are 0 instead of infinite."""
  return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals, tangents):
  y, (dx,) = safe_sqrt(*primals), tangents
  # XLA recomputes cheap operations for every use but stores roots and quotients. The derivative is
  # therefore computed from y, and the quotient comes first: the transpose computes it last.
  positive = y > 0
  return y, jnp.where(positive, dx / jnp.where(positive, 2 * y, 1), 0)


@jax.custom_jvp
def quotient(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `a / b` where `b > 0`, and 0 elsewhere, with finite derivatives."""
  positive = b > 0
  return jnp.where(positive, a / jnp.where(positive, b, 1), 0)


@quotient.defjvp
def _quotient_jvp(primals, tangents):
  (a, b), (da, db) = primals, tangents
  y = quotient(a, b)
  return y, quotient(da - y * db, b)


@jax.custom_jvp
def bounded(c: jax.Array) -> jax.Array:
  """Returns `c` clipped to [-1, 1]; its derivative is 1 everywhere, also where it is clipped."""
  return jnp.clip(c, -1, 1)


@bounded.defjvp
def _bounded_jvp(primals, tangents):
  return bounded(*primals), *tangents
