"""Which room may import which, as the layout in CONTRIBUTING.md says."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'scs_jax'

# What each room may import of scs_jax; a room may also import from itself, and all may import
# `errors` and `own`. A room is a folder of the package, or a file beside the folders.
MAY_IMPORT = {
  'ops': set(),
  'layers': {'ops'},
  'models': {'layers', 'ops'},
  'data': set(),
  'workdir': set(),
  'pictures': set(),
  'train': {'models', 'data', 'workdir', 'pictures', 'explanation', 'pretrained'},
  'explanation': {'ops', 'layers'},
  'explorer': {'train', 'models', 'layers', 'ops', 'data', 'workdir'},
  'export': {'models'},
  'pretrained': {'models'},
  'summary': {'models', 'export'},
  'command': set(),
  'main': {
    'command',
    'train',
    'data',
    'workdir',
    'explorer',
    'export',
    'pretrained',
    'summary',
    '__init__',
  },
  '__main__': set(),
  'errors': set(),
  'own': set(),
  '__init__': {
    'ops',
    'layers',
    'models',
    'data',
    'train',
    'explanation',
    'export',
    'pretrained',
    'summary',
    'workdir',
  },
}

# Packages that only these rooms may import.
ONLY_IN = {
  'flax': {
    'layers',
    'models',
    'train',
    'pictures',
    'explanation',
    'explorer',
    'export',
    'pretrained',
    'summary',
    '__init__',
  },
  'safetensors': {'models'},
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
  allowed = MAY_IMPORT[room] | {room, 'errors', 'own'}
  for name in imports_of(path):
    package, *rest = name.split('.')
    if package == 'scs_jax' and rest != ['__version__']:
      assert (rest or ['__init__'])[0] in allowed, f'{path}: {name}'
    assert room in ONLY_IN.get(package, {room}), f'{path}: {name}'


def test_ops_need_jax_alone():
  outside = {'jax', 'numpy', 'scs_jax'} | set(sys.stdlib_module_names)
  for path in (PACKAGE / 'ops').glob('*.py'):
    for name in imports_of(path):
      assert name.split('.')[0] in outside, f'{path}: {name}'


def test_only_checkpoints_import_orbax():
  users = [path for path in FILES if any(n.split('.')[0] == 'orbax' for n in imports_of(path))]
  assert [str(path.relative_to(PACKAGE)) for path in users] == ['workdir/checkpoints.py']


def test_the_hall_is_small():
  assert len([path for path in FILES if path.parent == PACKAGE]) <= 9


def test_files_and_functions_are_short():
  for path in FILES:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, path
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.FunctionDef):
        assert node.end_lineno - node.lineno < 110, f'{path}: {node.name}'


def test_tests_use_public_names_only():
  for path in pathlib.Path(__file__).parent.glob('*.py'):
    for name in imports_of(path):
      package, *rest = name.split('.')
      assert package != 'experiments', f'{path}: {name}'
      if package == 'scs_jax':
        assert not any(part.startswith('_') for part in rest), f'{path}: {name}'


def test_no_drawers():
  for path in FILES:
    assert path.stem not in {'utils', 'util', 'helpers', 'common', 'misc'}


def test_configs_import_the_defaults_only():
  allowed = ('ml_collections.', 'scs_jax.train.config.', 'scs_jax.errors.')
  for path in (PACKAGE.parent / 'configs').glob('*.py'):
    assert all(name.startswith(allowed) for name in imports_of(path)), path


def test_importing_the_package_loads_no_training_dependency():
  heavy = 'optax orbax tensorflow_datasets grain ml_collections matplotlib mlxtend tensorboardX'
  code = f'import sys, scs_jax; print(*(set({heavy.split()!r}) & set(sys.modules)))'
  # Flax itself imports some of them; what counts is that scs_jax adds none.
  base = code.replace('scs_jax', 'flax.nnx, flax.linen')
  run = lambda c: subprocess.run(
    [sys.executable, '-c', c], capture_output=True, text=True, check=True
  )
  assert set(run(code).stdout.split()) <= set(run(base).stdout.split())


def test_a_room_that_lacks_a_package_says_how_to_install_it():
  code = (
    'import sys, scs_jax; sys.modules["ml_collections"] = None\n'
    'for use in (lambda: scs_jax.train, lambda: scs_jax.load(".")):\n'
    '  try: use()\n'
    '  except scs_jax.errors.MissingPackageError as error: print(error)'
  )
  answers = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  ).stdout.splitlines()
  assert len(answers) == 2
  for answer in answers:
    assert 'scs_jax.train needs ml_collections' in answer
    assert "pip install 'scs-jax[train]'" in answer
