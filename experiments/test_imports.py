"""Every module of experiments imports, or is skipped because an optional package is absent."""

import pytest

from experiments.results import ROOT

OPTIONAL = ('torch', 'libtpu', 'onnxruntime', 'jax2onnx')
MODULES = [
  '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  for path in sorted((ROOT / 'experiments').rglob('*.py'))
  # The tour is a script, which its own test runs.
  if not path.name.startswith(('test_', 'conftest', '__init__', 'tour'))
]


@pytest.mark.parametrize('module', MODULES)
def test_modules_import_what_is_there(module, load):
  try:
    load(module)
  except ImportError as error:
    if error.name in OPTIONAL:
      pytest.skip(f'needs {error.name}')
    raise
