"""Loads what `--config` names: a Python file with its argument, or a workdir's config.json."""

import importlib.util
import inspect
import json
import os
import pathlib
import re
import sys
import traceback
import types
from importlib.machinery import SourceFileLoader

from etils import epath

from scs_jax.errors import ArgumentError, UserError, did_you_mean
from scs_jax.train import shipped
from scs_jax.train.config import Config, check_keys, from_dict
from scs_jax.train.keys import KEYS
from scs_jax.workdir import buckets, is_bucket

# What ml_collections says of an unknown key.
_KEY = re.compile(r"""(?s)['"](\w+)['"](?:\nDid.*)?|Key "(\w+)" does not exist.*""")
_LONGEST = 300  # characters of a message; ml_collections prints whole configs


def load(given: str) -> Config:
  """Returns a config.

  Args:
    given: 'FILE.py' or 'FILE.py:ARGUMENT', whose function `get_config` is called without arguments
      or with this one; 'NAME' or 'NAME:ARGUMENT' for a file that comes with the package; or the
      `config.json` of a workdir, a folder or `gs://`.

  Raises:
    ArgumentError: there is no such file, it raises an exception, or it returns no config. The
      message names the file and the line.
  """
  if given.endswith('.json'):
    return _from_json(given)
  path, colon, argument = shipped.path_of(given).partition(':')
  path = os.path.expanduser(path)
  module = _module(given, path)
  get_config = getattr(module, 'get_config', None)
  if not callable(get_config):
    raise ArgumentError(f'--config={given}: the file has no function get_config() that returns one')
  arguments = [argument] if colon else []
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    remedy = 'leave the colon and what follows out' if colon else f'write {given}:ARGUMENT'
    raise ArgumentError(f'--config={given}: get_config() has {error}; {remedy}') from error
  config: Config
  try:
    config = get_config(*arguments)
  except (Exception, SystemExit) as error:
    raise _told(given, path, error) from error
  try:
    check_keys(config)
  except ArgumentError as error:
    raise ArgumentError(f'--config={given}: {error}') from error
  return config.lock()


def _from_json(path: str) -> Config:
  if is_bucket(path):
    buckets.check_reached('--config', path)
  try:
    values = json.loads(epath.Path(os.path.expanduser(path)).read_text())
  except FileNotFoundError as error:
    raise ArgumentError(f'--config={path} cannot be read: {_absent(path)}') from error
  except (OSError, ValueError, RecursionError) as error:
    raise ArgumentError(f'--config={path} cannot be read: {error}') from error
  return from_dict(values, path)


def _module(given: str, path: str) -> types.ModuleType:
  """Runs a Python file."""
  if os.path.isdir(path):
    raise ArgumentError(
      f'--config={given} is a folder: name its config.json, or a file of configs/'
    )
  if not os.path.exists(path):
    raise ArgumentError(f'--config={given} cannot be read: {_absent(path)}')
  name = f'config_{pathlib.Path(path).stem}'
  loader = SourceFileLoader(name, path)
  spec = importlib.util.spec_from_loader(name, loader)
  assert spec is not None
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # dataclasses look their module up
  try:
    loader.exec_module(module)
  except (Exception, SystemExit) as error:
    raise _told(given, path, error) from error
  return module


def _absent(path: str) -> str:
  """Says that there is no such file, and which one may be meant."""
  name = pathlib.Path(path).stem
  if path.endswith('.py') and name in shipped.names():
    return f'there is no such file; --config={name} is the one that comes with the package'
  folder = os.path.dirname(path)
  files = [*pathlib.Path(folder or '.').glob('*.py'), *pathlib.Path('configs').glob('*.py')]
  near = did_you_mean(path, map(str, files)) or did_you_mean(
    pathlib.Path(path).stem, [file.stem for file in files]
  )
  return f'there is no such file{near}'


def _told(given: str, path: str, error: BaseException) -> ArgumentError:
  """Returns what a config file raised, as one line with its file and line."""
  places = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  line = f', line {places[-1]}' if places else ''
  if isinstance(error, SyntaxError) and error.filename == path:
    line = f', line {error.lineno}'
  elsewhere = ''
  if isinstance(error, SyntaxError) and error.filename != path:
    elsewhere = f' ({error.filename}, line {error.lineno})'
  return ArgumentError(f'--config={given}{line}: {_said(error)}{elsewhere}')


def _said(error: BaseException) -> str:
  if isinstance(error, UserError):
    return str(error)
  # ml_collections raises an AttributeError round a KeyError for a key that a config does not have.
  cause = error.args[0] if error.args else ''
  if isinstance(error, AttributeError) and isinstance(cause, KeyError):
    cause = cause.args[0]
  if key := _KEY.fullmatch(str(cause)):
    name = key[1] or key[2]
    return f'the config has no key {name!r}{did_you_mean(name, KEYS) or ";"} --help lists all'
  text = error.msg if isinstance(error, SyntaxError) else str(error)
  text = ' '.join(f'{type(error).__name__}: {text}'.splitlines())
  return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'
