"""Evaluates a network as an affine function of its images: what comes from them, plus a constant.

A network of linear layers, gates and divisions by norms is affine in its input once the gates and
norms are held constant. `evaluate` walks through the network's jaxpr and sorts every value:

- a `Signal` is affine in the images: their linear function, plus a constant part;
- a `Held` value depends on them in another way: a norm, a power, a gate, a comparison. It may
  multiply, divide and select signals, and JAX differentiates through none;
- all others do not depend on the images.

Because it reads the jaxpr, it works for every module and function, however it is wrapped, and a
jit cache has nothing to go stale.
"""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, subjaxprs


@dataclasses.dataclass(frozen=True)
class Signal:
  """A value that is affine in the images.

  Attributes:
    value: the array. Its derivative with respect to the images is the linear function.
    constant: its value at black images, with all held values as they are; None is 0.
    exact: whether JAX would take the same derivative without holding anything.
  """

  value: jax.Array
  constant: jax.Array | None = None
  exact: bool = True


@dataclasses.dataclass(frozen=True)
class Held:
  """A value that depends on the images and is held constant.

  Attributes:
    value: the array, without a derivative.
    reason: the operation that is not affine.
  """

  value: jax.Array
  reason: str


@dataclasses.dataclass(frozen=True)
class Uniform:
  """An array whose elements all equal one known number."""

  value: Any
  number: float


Value = Any  # one of these three, or an array that does not depend on the images

# Operations that hold another jaxpr and only call it, with the name of that parameter.
_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'core_call': 'call_jaxpr',
  'remat2': 'jaxpr',
  'checkpoint': 'jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
}
# Operations that are linear in all their numbers together, and those that pick among them. The
# formatter would give each name a line.
# fmt: off
_LINEAR = frozenset((
  'add', 'add_any', 'broadcast_in_dim', 'complex', 'concatenate', 'conj', 'convert_element_type',
  'copy', 'cumsum', 'device_put', 'dynamic_slice', 'dynamic_update_slice', 'expand_dims', 'fft',
  'gather', 'imag', 'name', 'neg', 'optimization_barrier', 'pad', 'real', 'reduce_precision',
  'reduce_sum', 'reduce_window_sum', 'reshape', 'rev', 'scatter', 'scatter-add', 'scatter-sub',
  'sharding_constraint', 'slice', 'split', 'squeeze', 'stack', 'sub', 'tile', 'transpose',
  'unstack',
))
_PICKS = frozenset((
  'abs', 'cummax', 'cummin', 'reduce_max', 'reduce_min', 'reduce_window_max', 'reduce_window_min',
  'select_n', 'sort', 'top_k',
))
# fmt: on
_PRODUCTS = frozenset({'mul', 'dot_general', 'conv_general_dilated', 'div'})
_CLIPS = frozenset({'max', 'min', 'clamp'})
_COPIES = frozenset({'broadcast_in_dim', 'convert_element_type', 'reshape', 'squeeze', 'copy'})
_NAMES = {'logistic': 'sigmoid', 'integer_pow': 'a power', 'square': 'a square', 'pow': 'a power'}


def evaluate(jaxpr: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
  """Returns the outputs of a jaxpr, sorted into `Signal`, `Held` and others.

  Args:
    jaxpr: of a function of arrays, as `jax.make_jaxpr` returns it.
    inputs: its arguments; those that are images are given as `Signal`.
  """
  known: dict[Any, Value] = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
  known.update(zip(jaxpr.jaxpr.invars, inputs, strict=True))
  read = lambda v: _literal(v) if isinstance(v, Literal) else known[v]
  for equation in jaxpr.jaxpr.eqns:
    outputs = _apply(equation, [read(v) for v in equation.invars])
    known.update(zip(equation.outvars, outputs, strict=True))
  return [read(v) for v in jaxpr.jaxpr.outvars]


def operations(jaxpr: ClosedJaxpr) -> set[str]:
  """Returns the names of all operations of a jaxpr, those of inner jaxprs included."""
  found, waiting = set(), [jaxpr.jaxpr]
  while waiting:
    inner = waiting.pop()
    found |= {equation.primitive.name for equation in inner.eqns}
    waiting += subjaxprs(inner)
  return found


def _literal(literal: Literal) -> Value:
  value: Any = literal.val
  is_number = jnp.ndim(value) == 0 and not jnp.iscomplexobj(value)
  return Uniform(value, float(value)) if is_number else value


def _apply(equation: JaxprEqn, operands: list[Value]) -> list[Value]:
  """Returns the outputs of one operation."""
  name = equation.primitive.name
  if not any(isinstance(operand, Signal | Held) for operand in operands):
    outputs = _bind(equation, operands)
    if name in _COPIES and isinstance(operands[0], Uniform):
      return [Uniform(output, operands[0].number) for output in outputs]
    return outputs
  if not any(isinstance(operand, Signal) for operand in operands):
    return _hold(equation, operands)
  if name in _CALLS:
    inner = equation.params[_CALLS[name]]
    inner = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    if name == 'custom_jvp_call' and _is_exact(inner, operands):
      return _homogeneous(equation, operands, adds=False)  # keeps its derivative, which is faster
    return evaluate(inner, operands)
  if name == 'cond':
    branches = equation.params['branches']
    platforms = equation.params.get('branches_platforms')
    if all(_is_exact(branch, operands[1:]) for branch in branches):
      return _homogeneous(equation, operands, adds=False)
    if platforms:  # as of jax.lax.platform_dependent; None stands for all other platforms
      here = [p is None or jax.default_backend() in p for p in platforms].index(True)
      return evaluate(branches[here], operands[1:])
  if name == 'scan':
    return _unroll(equation, operands)
  if name == 'stop_gradient':  # the value counts, whatever JAX would derive
    return [dataclasses.replace(operands[0], exact=False)]
  if name in _PRODUCTS:
    return _product(equation, operands)
  if name in _CLIPS and sum(isinstance(operand, Signal) for operand in operands) == 1:
    return _clip(equation, operands)
  if name in _LINEAR | _PICKS | _CLIPS:
    return _homogeneous(equation, operands)
  return _hold(equation, operands)


def _is_exact(jaxpr: ClosedJaxpr, operands: list[Value]) -> bool:
  """Whether every output is a linear function of the signals, or one that picks."""
  found = []

  def run(values):
    new = lambda operand, v: Signal(v) if isinstance(operand, Signal) else v
    outputs = evaluate(jaxpr, [new(*pair) for pair in zip(operands, values, strict=True)])
    found.extend(isinstance(o, Signal) and o.exact and o.constant is None for o in outputs)

  jax.eval_shape(run, [_value(operand) for operand in operands])
  return all(found)


def _hold(equation: JaxprEqn, operands: list[Value], reason: str | None = None) -> list[Value]:
  """Returns the outputs as held values."""
  held = [operand for operand in operands if isinstance(operand, Held)]
  held.sort(key=lambda operand: not _is_inexact(operand.value))  # a choice is not the reason
  name = equation.primitive.name
  why = held[0].reason if held else reason or _NAMES.get(name, name)
  outputs = _bind(equation, [_without_derivative(operand) for operand in operands])
  return [Held(output, why) for output in outputs]


def _product(equation: JaxprEqn, operands: list[Value]) -> list[Value]:
  """Multiplies or divides; divisors are held."""
  first, second = operands
  divides = equation.primitive.name == 'div'
  if isinstance(first, Signal) and (divides or not isinstance(second, Signal)):
    signal, factor = first, _without_derivative(second)
    times = lambda part: _bind(equation, [part, factor])[0]
    held = isinstance(second, Signal | Held)
  elif isinstance(second, Signal) and not divides and not isinstance(first, Signal):
    signal, factor = second, _without_derivative(first)
    times = lambda part: _bind(equation, [factor, part])[0]
    held = isinstance(first, Held)
  else:
    what = (
      'a division by a value that depends' if divides else 'a product of two values that depend'
    )
    return _hold(equation, operands, f'{what} on the image')
  constant = None if signal.constant is None else times(signal.constant)
  return [Signal(times(signal.value), constant, signal.exact and not held)]


def _homogeneous(equation: JaxprEqn, operands: list[Value], adds: bool = True) -> list[Value]:
  """Applies an operation that is linear, or picks, in all its numbers together."""
  if adds and any(isinstance(o, Held) and _is_inexact(o.value) for o in operands):
    return _hold(equation, operands)
  moving = [i for i, o in enumerate(operands) if isinstance(o, Signal)]
  # Numbers that do not depend on the images are constants that the operation adds or picks.
  moving += [
    i
    for i, o in enumerate(operands)
    if adds and not isinstance(o, Signal | Held) and _is_inexact(_value(o)) and not _is_zero(o)
  ]
  values = [_value(operand) for operand in operands]

  def function(*numbers):
    given = dict(zip(moving, numbers, strict=True))
    return _bind(equation, [given.get(i, value) for i, value in enumerate(values)])

  numbers = [jnp.asarray(values[i]) for i in moving]
  outputs, constants = function(*numbers), None
  parts = [operands[i].constant if isinstance(operands[i], Signal) else values[i] for i in moving]
  if any(part is not None for part in parts):
    of_zero = zip(parts, numbers, strict=True)
    parts = [jnp.zeros_like(n) if p is None else jnp.asarray(p, n.dtype) for p, n in of_zero]
    constants = jax.jvp(function, [lax.stop_gradient(n) for n in numbers], parts)[1]
  exact = all(o.exact for o in operands if isinstance(o, Signal))
  constants = constants or [None] * len(outputs)
  return [
    Signal(output, constant, exact)
    if _is_inexact(output)
    else Held(output, equation.primitive.name)
    for output, constant in zip(outputs, constants, strict=True)
  ]


def _unroll(equation: JaxprEqn, operands: list[Value]) -> list[Value]:
  """Returns the outputs of a loop of known length."""
  parameters = equation.params
  first, carries = parameters['num_consts'], parameters['num_carry']
  fixed, state = operands[:first], operands[first : first + carries]
  sequences, rows = operands[first + carries :], []
  steps = range(parameters['length'])
  for i in reversed(steps) if parameters['reverse'] else steps:
    row = [_map(operator.itemgetter(i), sequence) for sequence in sequences]
    outputs = evaluate(parameters['jaxpr'], [*fixed, *state, *row])
    state, rows = outputs[:carries], [*rows, outputs[carries:]]
  rows = rows[::-1] if parameters['reverse'] else rows
  return [*state, *map(_stack, zip(*rows, strict=True))]


def _map(function: Callable[[Any], jax.Array], value: Value) -> Value:
  """Applies a linear function to every array of a value."""
  if isinstance(value, Signal):
    constant = None if value.constant is None else function(value.constant)
    return Signal(function(value.value), constant, value.exact)
  new = function(_value(value))
  return Held(new, value.reason) if isinstance(value, Held) else new


def _stack(values: Sequence[Value]) -> Value:
  """Stacks values along a new first axis."""
  arrays = jnp.stack([_value(value) for value in values])
  for value in values:
    if isinstance(value, Held):
      return Held(lax.stop_gradient(arrays), value.reason)
  if not any(isinstance(value, Signal) for value in values):
    return arrays
  constants = [value.constant if isinstance(value, Signal) else _value(value) for value in values]
  if all(constant is None for constant in constants):
    return Signal(arrays, None, exact=False)
  zero = jnp.zeros_like(arrays[0])
  return Signal(arrays, jnp.stack([zero if c is None else c for c in constants]), exact=False)


def _clip(equation: JaxprEqn, operands: list[Value]) -> list[Value]:
  """Clips a signal: multiplies it by a gate from 0 to 1, such as that of ReLU.

  Where a bound moves the value away from 0, there is no such gate. The bound is then a constant.
  """
  if any(isinstance(operand, Held) for operand in operands):
    return _hold(equation, operands)
  (signal,) = (operand for operand in operands if isinstance(operand, Signal))
  x = lax.stop_gradient(signal.value)
  y = _bind(equation, [x if operand is signal else operand for operand in operands])[0]
  gate = jnp.where(y == x, 1, y / jnp.where(x == 0, 1, x))
  value = signal.value * gate
  constant = None if signal.constant is None else signal.constant * gate
  if not _shrinks(equation.primitive.name, operands):
    is_gate = (y == x) | ((x != 0) & (gate >= 0) & (gate <= 1))
    value = jnp.where(is_gate, value, y)
    constant = jnp.where(is_gate, 0 if constant is None else constant, y)
  return [Signal(value, constant, exact=False)]


def _shrinks(name: str, operands: list[Value]) -> bool:
  """Whether the bounds are known to lie on either side of 0, so that a clip only shrinks."""
  low = [operands[0]] if name == 'clamp' else operands if name == 'max' else []
  high = [operands[2]] if name == 'clamp' else operands if name == 'min' else []
  bounds = [(-1, o) for o in low] + [(1, o) for o in high]
  return all(
    isinstance(o, Signal) or (isinstance(o, Uniform) and sign * o.number >= 0) for sign, o in bounds
  )


def _bind(equation: JaxprEqn, operands: list[Value]) -> list[jax.Array]:
  parameters = equation.primitive.get_bind_params(equation.params)
  outputs = equation.primitive.bind(*map(_value, operands), **parameters)
  return list(outputs) if equation.primitive.multiple_results else [outputs]


def _value(operand: Value) -> Any:
  return operand.value if isinstance(operand, Signal | Held | Uniform) else operand


def _without_derivative(operand: Value) -> Any:
  return lax.stop_gradient(operand.value) if isinstance(operand, Signal) else _value(operand)


def _is_inexact(value: Any) -> bool:
  return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _is_zero(operand: Value) -> bool:
  return isinstance(operand, Uniform) and operand.number == 0
