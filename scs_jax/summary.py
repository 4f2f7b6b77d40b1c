"""A table of the layers of a network: output shape, parameters, flops, p and q.

`flax.nnx.tabulate` has neither p nor q, and fails for a network with a generator among its methods,
such as ScsNet.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scs_jax.export import input_shape_of

__all__ = ['Row', 'rows', 'table']

# Flops are those of XLA's program for this platform before optimisation: there, an SCS layer is a
# convolution. Its compiler is not needed.
_PLATFORM = 'tpu'
_HEADINGS = ('layer', 'kind', 'output', 'parameters', 'flops', 'p', 'q')
_LEFT = ('layer', 'kind')  # columns of words; numbers are aligned on the right

Path = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """A call of a layer with one image.

  Attributes:
    layer: the path of the layer in the network, such as `blocks.0.layers.1`.
    kind: the name of its class.
    output: the shape of its output, without the batch; None if it was not called.
    parameters: the number of its own parameters; 0 where it is called again.
    flops: of the call; None if other layers are called inside it.
    p: its exponents; None if it has none.
    q: what it adds to the norms; None if it has none.
  """

  layer: str
  kind: str
  output: tuple[int, ...] | None
  parameters: int
  flops: int | None
  p: np.ndarray | None
  q: np.ndarray | None


def table(model: nnx.Module, input_shape: Sequence[int] | None = None) -> str:
  """Returns the table of a network as text, with its totals in the last line.

  p and q are as they are now, so those of a trained network are the learned ones. Two numbers are
  the smallest and the largest of a layer.

  Args:
    model: a network with arrays.
    input_shape: `(*spatial, channels)` of one image; None takes that of the network's data set,
      which a loaded network knows.

  Raises:
    ArgumentError: the input shape is unknown.

  Example:
    >>> import scs_jax
    >>> table = scs_jax.summary.table(scs_jax.load('mnist_1382'))
    >>> table.splitlines()[0].split()
    ['layer', 'kind', 'output', 'parameters', 'flops', 'p', 'q']
    >>> table.splitlines()[1].split()[:4]
    ['scs_0', 'SharpenedCosineSimilarity', '28×28×8', '202']
  """
  shape = input_shape_of(model, input_shape)
  lines = [_HEADINGS, *map(_texts, rows(model, shape))]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  aligned = [
    text.ljust(width) if heading in _LEFT else text.rjust(width)
    for line in lines
    for text, width, heading in zip(line, widths, _HEADINGS, strict=True)
  ]
  n = len(_HEADINGS)
  text = ['  '.join(aligned[i : i + n]).rstrip() for i in range(0, len(aligned), n)]
  return '\n'.join([*text, '', _totals(model, shape)])


def rows(model: nnx.Module, input_shape: Sequence[int] | None = None) -> list[Row]:
  """Returns a row for each call of a layer, in the order of the calls.

  A layer is a module without modules inside it, or with parameters of its own. An activation that
  is a function has no row. The network is called in evaluation mode.

  Args:
    model: as for `table`.
    input_shape: as for `table`.

  Raises:
    ArgumentError: the input shape is unknown.
  """
  images = _images(input_shape_of(model, input_shape))
  model = _evaluating(model)
  modules = dict(nnx.iter_modules(model))
  own = {path: _own_parameters(module) for path, module in modules.items()}
  inner = {path for path in modules if not _is_leaf(path, modules)}
  layers = {path: module for path, module in modules.items() if own[path] or path not in inner}
  exponents = {path: (_numbers(m, 'p'), _numbers(m, 'q')) for path, m in layers.items()}
  kinds = {path: type(layer).__name__ for path, layer in layers.items()}
  calls = _calls(model, layers, images)
  called = {call.path for call in calls}
  calls += [Call(path, None, None) for path in layers if own[path] and path not in called]
  found: list[Row] = []
  for call in calls:
    name = '.'.join(map(str, call.path)) or '(network)'
    parameters = 0 if any(row.layer == name for row in found) else own[call.path]
    flops = None if call.path in inner or call.count is None else call.count()
    found.append(Row(name, kinds[call.path], call.output, parameters, flops, *exponents[call.path]))
  return found


@dataclasses.dataclass(frozen=True)
class Call:
  """A call of a layer.

  Attributes:
    path: of the layer in the network.
    output: the shape of the output, without the batch; None if that is no array.
    count: returns the flops of the call; None if it was not called.
  """

  path: Path
  output: tuple[int, ...] | None
  count: Callable[[], int] | None


def _calls(
  model: nnx.Module, layers: Mapping[Path, nnx.Module], images: jax.ShapeDtypeStruct
) -> list[Call]:
  """Returns the calls of these layers of a network; afterwards, the network goes on noting them."""
  calls: list[Call] = []

  def watch(path: Path, layer: nnx.Module) -> None:
    kind: Any = type(layer)

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
      y = kind.__call__(self, *args, **kwargs)
      output = tuple(y.shape[1:]) if isinstance(y, jax.Array) else None
      count = functools.partial(_flops, self, functools.partial(kind.__call__, **kwargs), *args)
      calls.append(Call(path, output, count))
      return y

    # A class of its own, because Python looks for `__call__` in the class.
    layer.__class__ = type(kind)(kind.__name__, (kind,), {'__call__': call})

  for path, layer in layers.items():
    if callable(layer):
      watch(path, layer)
  jax.eval_shape(lambda images: model(images), images)
  return calls


def _totals(model: nnx.Module, input_shape: tuple[int, ...]) -> str:
  model = _evaluating(model)
  images = _images(input_shape)
  parameters, others = (
    sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, kind)))
    for kind in (nnx.Param, nnx.BatchStat)
  )
  statistics = f' and {others:,} statistics' if others else ''
  flops = _flops(model, lambda model, images: model(images), images)
  return (
    f'{parameters:,} parameters{statistics}; {flops:,} flops for one image of '
    f'{_with_crosses(input_shape)}'
  )


def _texts(row: Row) -> tuple[str, ...]:
  """Returns the cells of a row, in the order of `_HEADINGS`."""
  output = '-' if row.output is None else _with_crosses(row.output)
  flops = '-' if row.flops is None else f'{row.flops:,}'
  return row.layer, row.kind, output, f'{row.parameters:,}', flops, _range(row.p), _range(row.q)


def _with_crosses(shape: Sequence[int]) -> str:
  return '×'.join(map(str, shape)) or '1'


def _range(values: np.ndarray | None) -> str:
  if values is None:
    return '-'
  ends = dict.fromkeys(f'{value:.3g}' for value in (values.min(), values.max()))
  return ' to '.join(ends)


def _evaluating(model: nnx.Module) -> nnx.Module:
  """Returns a copy in evaluation mode."""
  model = nnx.clone(model)
  model.eval()
  return model


def _images(input_shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)


def _flops(model: nnx.Module, function: Callable[..., Any], *arguments: Any) -> int:
  """Returns the flops of `function(model, *arguments)`, as XLA counts them.

  Arguments that are no arrays stay as they are. The model's arrays are arguments too: as constants,
  a bias of zeros would not be counted.
  """
  graph, state = nnx.split(model)
  leaves, tree = jax.tree.flatten((state, *arguments))
  of_array = [isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) for leaf in leaves]

  def call(*arrays: jax.Array) -> Any:
    rest = iter(arrays)
    given = (next(rest) if on else leaf for leaf, on in zip(leaves, of_array, strict=True))
    state, *rest_of = jax.tree.unflatten(tree, given)
    return function(nnx.merge(graph, state), *rest_of)

  arrays = [leaf for leaf, on in zip(leaves, of_array, strict=True) if on]
  shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
  lowered = jax.jit(call).trace(*shapes).lower(lowering_platforms=(_PLATFORM,))
  cost: Any = lowered.cost_analysis()
  return int(cost.get('flops', 0))


def _own_parameters(module: nnx.Module) -> int:
  """Returns the number of parameters of a module, without those of modules inside it."""
  own = (value for value in vars(module).values() if isinstance(value, nnx.Param))
  return sum(value[...].size for value in own)


def _is_leaf(path: Path, modules: Iterable[Path]) -> bool:
  return not any(other[: len(path)] == path and other != path for other in modules)


def _numbers(layer: nnx.Module, name: str) -> np.ndarray | None:
  value = getattr(layer, name, None)
  return np.asarray(value, np.float32) if isinstance(value, int | float | jax.Array) else None
