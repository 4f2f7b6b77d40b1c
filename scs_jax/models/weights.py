"""The arrays of a network by name, and the safetensors files that hold them.

The names are the paths of the arrays in the network, such as `scs_0.kernel`. The header of a file
also holds, under `scs_jax`, the recipe of the network (`scs_jax.models.recipe_of`) and the names of
its classes, so that `load` needs nothing else. Streams of random keys, as dropout has them, are not
written.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import safetensors
import safetensors.flax
from flax import nnx

from scs_jax import models
from scs_jax.errors import ArgumentError

SUFFIX = '.safetensors'
_HEADER = 'scs_jax'  # key in the header of a file


def named(model: nnx.Module) -> dict[str, Any]:
  """Returns the arrays of a network by name, or their shapes if it is abstract.

  Example:
    >>> from flax import nnx
    >>> from scs_jax.models import weights
    >>> sorted(weights.named(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    ['bias', 'kernel']
  """
  leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(_state(model)))
  return {_name(path): leaf for path, leaf in leaves}


def to_bytes(model: nnx.Module) -> bytes:
  """Returns the content of the safetensors file of a network.

  Raises:
    ArgumentError: an array has a dtype that safetensors does not know.
  """
  about = {'recipe': models.recipe_of(model), 'class_names': getattr(model, 'class_names', None)}
  arrays = named(model)
  try:
    return safetensors.flax.save(arrays, {_HEADER: json.dumps(about)})
  except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
    kinds = ', '.join(sorted({str(array.dtype) for array in arrays.values()}))
    raise ArgumentError(f'safetensors cannot hold these dtypes: {kinds} ({error})') from error


def fill(model: nnx.Module, path: str | os.PathLike) -> None:
  """Gives a network the arrays of a file, which must have its names, shapes and dtypes.

  Args:
    model: is changed in place.
    path: a safetensors file, such as `scs_jax.export.to_safetensors` writes.

  Raises:
    ArgumentError: there is no such file, it is damaged, or its arrays are those of another network.
  """
  arrays, _ = _read(path)
  _fill(model, arrays, path)


def load(path: str | os.PathLike) -> nnx.Module:
  """Returns the network that a file holds, in evaluation mode.

  Its attribute `class_names` is the tuple of the names of the classes, or None.

  Args:
    path: a safetensors file with a recipe.

  Raises:
    ArgumentError: as `fill`; or the file has no recipe, or names a class outside of this package.
  """
  arrays, about = _read(path)
  recipe = about.get('recipe')
  if not isinstance(recipe, dict):
    raise ArgumentError(
      f'{os.fspath(path)} does not say of which network its arrays are: build the network, then '
      'call scs_jax.export.from_safetensors(model, path)'
    )
  if recipe.get('name') not in list(models.MODELS):  # a file of weights must not import a module
    raise ArgumentError(
      f'{os.fspath(path)} holds a network of the class {recipe.get("name")!r}, which is not in '
      'scs_jax: build it, then call scs_jax.export.from_safetensors(model, path)'
    )
  build = lambda: models.build(**recipe, rngs=nnx.Rngs(0))
  try:
    model: Any = nnx.eval_shape(build)
  except (TypeError, ValueError) as error:
    raise ArgumentError(
      f'{os.fspath(path)} holds a network that this version of scs_jax cannot build: {error}'
    ) from error
  if jax.tree.leaves(nnx.state(model, nnx.RngState)):
    model = build()  # with random keys
  _fill(model, arrays, path)
  model.eval()
  model.class_names = about.get('class_names')
  return model


def _read(path: str | os.PathLike) -> tuple[dict[str, jax.Array], dict[str, Any]]:
  """Returns the arrays of a file by name, and what its header says of the network."""
  path = pathlib.Path(os.path.expanduser(path))
  try:
    with safetensors.safe_open(path, framework='flax') as file:
      arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
      about = json.loads((file.metadata() or {}).get(_HEADER, '{}'))
    return arrays, models.with_tuples(about) if isinstance(about, dict) else {}
  except OSError as error:
    raise ArgumentError(f'{path} cannot be read: {error}') from error
  except (safetensors.SafetensorError, ValueError, TypeError) as error:
    raise ArgumentError(f'{path} is not an intact safetensors file: {error}') from error


def _fill(model: nnx.Module, arrays: Mapping[str, jax.Array], path: str | os.PathLike) -> None:
  wanted = {name: _described(leaf) for name, leaf in named(model).items()}
  found = {name: _described(leaf) for name, leaf in arrays.items()}
  differ = [name for name in sorted(wanted | found) if wanted.get(name) != found.get(name)]
  if differ:
    name = differ[0]
    raise ArgumentError(
      f'{os.fspath(path)} does not fit the network: {name} is {found.get(name, "absent")} in the '
      f'file and {wanted.get(name, "absent")} in the network; {len(differ) - 1} more differ'
    )
  state = _state(model)
  tree = nnx.to_pure_dict(state)
  values = jax.tree_util.tree_map_with_path(lambda at, _: arrays[_name(at)], tree)
  nnx.replace_by_pure_dict(state, values)
  nnx.update(model, state)


def _state(model: nnx.Module) -> nnx.State:
  return nnx.state(model, nnx.Not(nnx.RngState))


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='.')


def _described(array: Any) -> str:
  return f'{array.dtype}[{",".join(map(str, array.shape))}]'
