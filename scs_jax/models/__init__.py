"""Architectures, built by name from plain sizes."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from scs_jax import own
from scs_jax.errors import ArgumentError, check_known
from scs_jax.models.autoencoder import Autoencoder
from scs_jax.models.cct import CompactTransformer
from scs_jax.models.convmixer import ConvMixer
from scs_jax.models.densenet import DenseNet
from scs_jax.models.hukkelas import HukkelasNet
from scs_jax.models.parts import LayerOptions
from scs_jax.models.resnet import ResNet
from scs_jax.models.scs_net import ScsNet

__all__ = ['MODELS', 'LayerOptions', 'arguments_of', 'build', 'parameters_of', 'recipe_of']

MODELS = {
  'autoencoder': Autoencoder,
  'cct': CompactTransformer,
  'convmixer': ConvMixer,
  'densenet': DenseNet,
  'hukkelas': HukkelasNet,
  'resnet': ResNet,
  'scs_net': ScsNet,
}
_GIVEN = ('input_shape', 'num_classes', 'rngs')  # by the data set and the seed


def build(name: str, **arguments: Any) -> nnx.Module:
  """Builds the model `name`, in training mode like any new Flax module.

  Args:
    name: a key of `MODELS`, or 'my_module:MyNet' for an `nnx.Module` of one's own that takes
      `input_shape`, `num_classes` and `rngs`.
    **arguments: those of the class; `input_shape`, `num_classes` and `rngs` among them. Where the
      class takes `options`, the fields of `LayerOptions` are given one by one.

  Raises:
    ArgumentError: for an unknown name or argument; the message suggests the nearest.
  """
  model = _find(name)
  known = arguments_of(name)
  for argument in arguments:
    check_known(f'argument of model {name!r}', argument, (*_GIVEN, *known))
  recipe = _recipe(name, known | arguments)
  if (options := _options_of(model)) is not None:
    fields = vars(options)
    chosen = {**fields, **{key: value for key, value in arguments.items() if key in fields}}
    arguments = {key: value for key, value in arguments.items() if key not in fields}
    arguments['options'] = LayerOptions(**chosen)
  built: Any = model(**arguments)
  built.scs_jax_recipe = recipe
  return built


def recipe_of(model: nnx.Module) -> dict[str, Any] | None:
  """Returns the arguments with which `build` makes the like of `model`, but for `rngs`.

  Defaults are among them, sequences are tuples, and dtypes are their names. None if `build` did not
  make `model`, or if an argument cannot be written as JSON.

  Example:
    >>> from flax import nnx
    >>> from scs_jax import models
    >>> stack = ({'kind': 'scs', 'features': 4}, {'kind': 'head'})
    >>> sizes = {'input_shape': (8, 8, 1), 'num_classes': 10}
    >>> model = models.build('scs_net', stack=stack, **sizes, rngs=nnx.Rngs(0))
    >>> recipe = models.recipe_of(model)
    >>> recipe['name'], recipe['input_shape']
    ('scs_net', (8, 8, 1))
    >>> again = models.build(**recipe, rngs=nnx.Rngs(1))
  """
  recipe = getattr(model, 'scs_jax_recipe', None)
  return None if recipe is None else with_tuples(json.loads(recipe))


def with_tuples(value: Any) -> Any:
  """Returns JSON with its lists as tuples, which is what configs and modules have."""
  if isinstance(value, dict):
    return {key: with_tuples(item) for key, item in value.items()}
  return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def _recipe(name: str, arguments: Mapping[str, Any]) -> str | None:
  """Returns a recipe as JSON: text, because the attributes of a module must be hashable."""
  empty = inspect.Parameter.empty
  given = {key: v for key, v in arguments.items() if key != 'rngs' and v is not empty}
  try:
    return json.dumps({'name': name, **given}, default=_plain)
  except TypeError:  # an initializer, for example
    return None


def _plain(value: Any) -> Any:
  """Returns a dtype's name, or a number of NumPy as one of Python."""
  return value.item() if isinstance(value, np.generic) else jnp.dtype(value).name


def arguments_of(name: str) -> dict[str, Any]:
  """Returns what a config may say of the model `name`, with the defaults.

  An argument without a default is `inspect.Parameter.empty`.

  Raises:
    ArgumentError: for an unknown name.
  """
  return {key: parameter.default for key, parameter in parameters_of(name).items()}


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
  """Returns what a config may say of the model `name`: default and annotation of each argument.

  Raises:
    ArgumentError: for an unknown name.
  """
  model = _find(name)
  parameters = {key: value for key, value in _parameters(model).items() if key not in _GIVEN}
  options = _options_of(model)
  if options is not None:
    del parameters['options']
    for field in dataclasses.fields(options):
      value = getattr(options, field.name)
      parameters[field.name] = inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=field.type
      )
  return parameters


def _find(name: str) -> type[nnx.Module]:
  """Returns the class of that name, imported if it is one of the user's."""
  if ':' not in name:
    check_known('model', name, MODELS)
    return MODELS[name]
  model = own.find('model.name', name, 'class')
  if not (isinstance(model, type) and issubclass(model, nnx.Module)):
    raise ArgumentError(f'model.name={name!r} must name an nnx.Module, got {model!r}')
  missing = set(_GIVEN) - set(_parameters(model))
  if missing:
    raise ArgumentError(
      f'model.name={name!r}: {model.__name__}.__init__ must take {", ".join(_GIVEN)}; it lacks '
      f'{", ".join(sorted(missing))}'
    )
  return model


def _parameters(model: type[nnx.Module]) -> Mapping[str, inspect.Parameter]:
  """Returns the arguments of a class that can be given by name."""
  try:
    signature = inspect.signature(model.__init__, eval_str=True)
  except NameError:  # an annotation that is there for type checkers only
    signature = inspect.signature(model.__init__)
  _, *parameters = signature.parameters.values()  # the class's own is its metaclass's
  several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  return {each.name: each for each in parameters if each.kind not in several}


def _options_of(model: type[nnx.Module]) -> LayerOptions | None:
  """Returns the default `options` of a model; None if it takes none."""
  parameter = _parameters(model).get('options')
  default = None if parameter is None else parameter.default
  return default if isinstance(default, LayerOptions) else None
