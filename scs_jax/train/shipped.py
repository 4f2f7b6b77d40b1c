"""The config files that come with the package: `--config=quickstart` finds them by name.

In a clone they are in `configs/`. The wheel has a copy of that folder inside the package.
"""

import ast
import os
import pathlib

from scs_jax.errors import check_known

_PACKAGE = pathlib.Path(__file__).parent.parent


def folder() -> pathlib.Path:
  """Returns the folder of the config files."""
  inside = _PACKAGE / 'configs'
  return inside if inside.is_dir() else _PACKAGE.parent / 'configs'


def names() -> list[str]:
  """Returns the names of the config files, without their suffix."""
  return sorted(path.stem for path in folder().glob('*.py'))


def path_of(given: str) -> str:
  """Returns 'FOLDER/NAME.py:ARGUMENT' for 'NAME:ARGUMENT', and a path unchanged.

  Raises:
    ArgumentError: there is no config file of that name.
  """
  name, colon, argument = given.partition(':')
  if not name.isidentifier() or (name not in names() and os.path.isdir(name)):
    return given
  check_known('config', name, names())
  return f'{folder() / name}.py{colon}{argument}'


def summary_of(name: str) -> str:
  """Returns the first sentence of a config file's docstring."""
  first = (ast.get_docstring(_parsed(name)) or '').partition('\n')[0]
  return first.partition(': --config')[0].rstrip('.')


def arguments_of(name: str) -> list[str]:
  """Returns the keys of a config file's dict `NETWORKS`: what may follow its name and a colon."""
  dicts = (
    node.value
    for node in _parsed(name).body
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    if any(isinstance(target, ast.Name) and target.id == 'NETWORKS' for target in node.targets)
  )
  return [str(key.value) for d in dicts for key in d.keys if isinstance(key, ast.Constant)]


def _parsed(name: str) -> ast.Module:
  return ast.parse((folder() / f'{name}.py').read_text())
