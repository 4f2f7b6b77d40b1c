"""Finds what a user names as 'my_module:Name': a model or a data set of their own."""

import importlib
import pathlib
import sys
import types
from typing import Any

from scs_jax.errors import ArgumentError, did_you_mean


def find(argument: str, name: str, kind: str, remedy: str = '') -> Any:
  """Returns what `name` stands for; its module is imported.

  Exceptions that the module raises keep their traceback.

  Args:
    argument: the key of the config, for error messages.
    name: 'my_module:Name', or 'my_package.my_module:Name'.
    kind: what it should be, e.g. 'class'.
    remedy: a sentence for error messages.

  Raises:
    ArgumentError: there is no such module, or it has no such name; the message suggests the
      nearest.
  """
  module_name, _, attribute = name.partition(':')
  given = f'{argument}={name!r}'
  is_module = all(part.isidentifier() for part in module_name.split('.'))
  if not is_module or not attribute.isidentifier() or module_name.endswith('.py'):
    file = pathlib.PurePath(module_name).name.removesuffix('.py')
    file = file if file.isidentifier() else 'my_module'
    wrong = f'{attribute!r} is not a name in Python'
    if attribute.isidentifier():
      wrong = f'{module_name!r} is not the name of a Python module'
    example = f'{file}:{attribute if attribute.isidentifier() else "Name"}'
    raise ArgumentError(
      f'{given} is not MODULE:NAME, because {wrong}. For a {kind} in the file {file}.py write '
      f'{example!r}'
    )
  module = _module(given, module_name, remedy)
  value = getattr(module, attribute, None)
  if value is None:
    known = [key for key, each in vars(module).items() if callable(each)]
    raise ArgumentError(
      f'{given} cannot be loaded, because {module!r} has no {kind} {attribute!r}'
      f'{did_you_mean(attribute, known) or "."} '
      f'{remedy}'.strip()
    )
  return value


def _module(given: str, name: str, remedy: str) -> types.ModuleType:
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
      raise  # the module is there; what it imports is not
    missing = error.name
  near = {path.stem for folder in sys.path[:2] for path in pathlib.Path(folder).glob('*.py')}
  hint = did_you_mean(missing, near) if '.' not in missing else ''
  raise ArgumentError(
    f'{given} cannot be loaded, because Python finds no module {missing!r}{hint or "."} Run from '
    f'the folder that contains it, or add that folder to PYTHONPATH. {remedy}'.strip()
  )
