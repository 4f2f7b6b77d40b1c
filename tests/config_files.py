"""Loads the config files of this repository, as the command line does."""

import importlib.util
import pathlib
import types

from scs_jax.train.config import Config

FOLDER = pathlib.Path(__file__).parent.parent / 'configs'
# The files that the tests cover. A config of your own in the same folder needs no test.
NAMES = (
  'cifar10',
  'fashion_mnist',
  'gallery',
  'imagenet',
  'invariant',
  'mnist',
  'quickstart',
  'records',
)


def load_module(name: str) -> types.ModuleType:
  """Returns the module of `configs/NAME.py`."""
  spec = importlib.util.spec_from_file_location(f'config_{name}', FOLDER / f'{name}.py')
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def load_config(name: str, *argument: str) -> Config:
  """Returns the config that `configs/NAME.py` makes of the argument."""
  return load_module(name).get_config(*argument)
