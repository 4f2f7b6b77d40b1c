"""Loads the real config files, as the command line does."""

import importlib.util
import pathlib

from ml_collections import ConfigDict

FOLDER = pathlib.Path(__file__).parent.parent / 'configs'


def load_module(name: str):
  spec = importlib.util.spec_from_file_location(f'config_{name}', FOLDER / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def load_config(name: str, *argument: str) -> ConfigDict:
  return load_module(name).get_config(*argument)
