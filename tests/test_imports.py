"""Which room may import which, as the layout in README.md says."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'scs_jax'

# What each room may import of scs_jax; a room may also import from itself, and all may import
# `spelling`. The rooms of one package are its folder; the others are single files.
MAY_IMPORT = {
  'ops': set(),
  'layers': {'ops'},
  'models': {'layers', 'ops'},
  'data': set(),
  'optim': set(),
  'losses': set(),
  'metrics': set(),
  'sharding': set(),
  'checkpoint': set(),
  'pictures': set(),
  'metric_log': set(),
  'stopping': set(),
  'watchdog': set(),
  'workdir': set(),
  'spelling': set(),
  'train': {
    'models', 'data', 'optim', 'losses', 'metrics', 'sharding', 'checkpoint', 'metric_log',
    'pictures', 'stopping', 'watchdog', 'workdir',
  },
  'main': {'train', 'sharding'},
  '__init__': {'ops', 'layers'},
}  # fmt: skip

# Packages that only these rooms may import.
ONLY_IN = {
  'flax': {'layers', 'models', 'train', 'pictures', '__init__'},
  'orbax': {'checkpoint'},
  'tensorflow_datasets': {'data'},
  'grain': {'data'},
  'mlxtend': {'data'},
  'ml_collections': {'train', 'main'},
  'matplotlib': {'pictures'},
  'tensorflow': set(),
}

FILES = sorted(PACKAGE.rglob('*.py'))


def room_of(path):
  first = path.relative_to(PACKAGE).parts[0]
  return first.removesuffix('.py')


def imports_of(path):
  """Yields the full dotted name of everything that a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path} imports relatively'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_the_plan_allows(path):
  room = room_of(path)
  allowed = MAY_IMPORT[room] | {room, 'spelling'}
  for name in imports_of(path):
    package, *rest = name.split('.')
    if package == 'scs_jax':
      assert rest[0] in allowed, f'{path}: {name}'
    assert room in ONLY_IN.get(package, {room}), f'{path}: {name}'


def test_ops_need_jax_alone():
  outside = {'jax', 'numpy', 'scs_jax'} | set(sys.stdlib_module_names)
  for path in (PACKAGE / 'ops').glob('*.py'):
    for name in imports_of(path):
      assert name.split('.')[0] in outside, f'{path}: {name}'


def test_no_drawers():
  for path in FILES:
    assert path.stem not in {'utils', 'util', 'helpers', 'common', 'misc'}


def test_configs_import_ml_collections_only():
  for path in (PACKAGE.parent / 'configs').glob('*.py'):
    assert {name.split('.')[0] for name in imports_of(path)} <= {'ml_collections'}, path


def test_importing_the_package_loads_no_training_dependency():
  heavy = 'optax orbax tensorflow_datasets grain ml_collections matplotlib mlxtend tensorboardX'
  code = f'import sys, scs_jax; print(*(set({heavy.split()!r}) & set(sys.modules)))'
  # Flax itself imports some of them; what counts is that scs_jax adds none.
  base = code.replace('scs_jax', 'flax.nnx, flax.linen')
  run = lambda c: subprocess.run(
    [sys.executable, '-c', c], capture_output=True, text=True, check=True
  )
  assert set(run(code).stdout.split()) <= set(run(base).stdout.split())
