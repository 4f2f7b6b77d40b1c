"""Architectures, built by name from plain sizes."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

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

__all__ = ['MODELS', 'LayerOptions', 'arguments_of', 'build', 'parameters_of']

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
  if (options := _options_of(model)) is not None:
    own = vars(options)
    chosen = {**own, **{key: value for key, value in arguments.items() if key in own}}
    arguments = {key: value for key, value in arguments.items() if key not in own}
    arguments['options'] = LayerOptions(**chosen)
  return model(**arguments)


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
