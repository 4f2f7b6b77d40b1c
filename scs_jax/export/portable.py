"""Rewrites a function for jax2onnx, without what it does not translate, or translates wrongly.

Checked with jax2onnx 0.17.1. Of its faults, these meet networks of scs_jax:

- it does not know `platform_index`, by which `lax.platform_dependent` chooses: take the default;
- `pad` fails for a symbolic batch: concatenate;
- a maximum over windows becomes a MaxPool over all dimensions, which runtimes refuse: take the
  maximum of the shifted image;
- a product without a sum over batches loses the batch dimensions: multiply.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import lax

from scs_jax.errors import ArgumentError

# Calls of other functions: their content takes their place. The key of their parameter differs.
_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'checkpoint': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
}


def rewrite(
  function: Callable[[jax.Array], jax.Array], images: jax.ShapeDtypeStruct
) -> Callable[[jax.Array], jax.Array]:
  """Returns an equal function of images of this shape, in operations that jax2onnx translates.

  Raises:
    ArgumentError: the function computes in bfloat16 or float16.
  """
  traced = jax.make_jaxpr(function)(images)
  rewritten = jax.make_jaxpr(lambda x: _evaluate(traced.jaxpr, traced.consts, [x])[0])(images)
  kinds = {v.aval.dtype.name for equation in rewritten.eqns for v in equation.outvars}
  if others := kinds & {'bfloat16', 'float16', 'float64'}:
    raise ArgumentError(
      f'the model computes in {", ".join(sorted(others))}, and ONNX is written for float32: build '
      "it with dtype='float32' and param_dtype='float32'"
    )
  return lambda x: jax.extend.core.jaxpr_as_fun(rewritten)(x)[0]


def _evaluate(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
  """Evaluates a jaxpr, equation by equation; those of `_REWRITTEN` in other operations."""
  values = dict(zip(jaxpr.constvars, consts, strict=True))
  values.update(zip(jaxpr.invars, arguments, strict=True))

  def value(variable):
    if isinstance(variable, jax.extend.core.Literal):
      aval: Any = variable.aval
      return np.asarray(variable.val, aval.dtype)
    return values[variable]

  for equation in jaxpr.eqns:
    name, given = equation.primitive.name, [value(v) for v in equation.invars]
    if name == 'cond' and isinstance(given[0], int):  # the index that _default returned
      branch = equation.params['branches'][given[0]]
      results = _evaluate(branch.jaxpr, branch.consts, given[1:])
    elif name in _CALLS:
      inner = equation.params[_CALLS[name]]
      inner, constants = getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ())
      results = _evaluate(inner, constants, given)
    else:
      operation: Any = _REWRITTEN.get(name, equation.primitive.bind)
      results = operation(*given, **equation.params)
      results = results if equation.primitive.multiple_results else [results]
    values.update(zip(equation.outvars, results, strict=True))
  return [value(v) for v in jaxpr.outvars]


def _default(platforms: Sequence[Any]) -> int:
  """Returns the number of the branch for all platforms that are not named."""
  return platforms.index(None)


def _pad(
  x: jax.Array, value: jax.Array, *, padding_config: Sequence[tuple[int, int, int]]
) -> jax.Array:
  if any(low < 0 or high < 0 or inner for low, high, inner in padding_config):
    return lax.pad(x, value, padding_config)
  for axis, (low, high, _) in enumerate(padding_config):
    before, after = (
      [jnp.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), value, x.dtype)] if size else []
      for size in (low, high)
    )
    x = lax.concatenate([*before, x, *after], axis) if before or after else x
  return x


def _largest_in_window(x: jax.Array, **parameters: Any) -> jax.Array:
  window, strides = parameters['window_dimensions'], parameters['window_strides']
  if {*parameters['base_dilation'], *parameters['window_dilation']} != {1}:
    return lax.reduce_window_max_p.bind(x, **parameters)
  margins = [(low, high, 0) for low, high in parameters['padding']]
  x = _pad(x, jnp.asarray(-jnp.inf, x.dtype), padding_config=margins)
  steps = [(n - size) // step for n, size, step in zip(x.shape, window, strides, strict=True)]

  def shifted(start):
    ends = [at + n * step + 1 for at, n, step in zip(start, steps, strides, strict=True)]
    return lax.slice(x, start, ends, strides)

  return functools.reduce(lax.max, map(shifted, itertools.product(*map(range, window))))


def _product(a: jax.Array, b: jax.Array, **parameters: Any) -> jax.Array:
  (contracted, _), (batch_a, batch_b) = parameters['dimension_numbers']
  if contracted or not batch_a:
    return lax.dot_general_p.bind(a, b, **parameters)
  front = lambda x, batch: jnp.moveaxis(x, batch, range(len(batch)))  # the batch comes first
  a, b = front(a, batch_a), front(b, batch_b)
  own = a.ndim - len(batch_a), b.ndim - len(batch_b)
  a = lax.expand_dims(a, range(a.ndim, a.ndim + own[1]))
  b = lax.expand_dims(b, range(len(batch_b), len(batch_b) + own[0]))
  return (a * b).astype(parameters['preferred_element_type'] or a.dtype)


_REWRITTEN: dict[str, Callable[..., Any]] = {
  'platform_index': _default,
  'pad': _pad,
  'reduce_window_max': _largest_in_window,
  'dot_general': _product,
}
