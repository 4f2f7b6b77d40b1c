"""Every script of experiments/ still finds what it imports."""

import runpy
import sys

import pytest
from absl import flags
from config_files import FOLDER

EXPERIMENTS = FOLDER.parent / 'experiments'
SCRIPTS = [str(p.relative_to(EXPERIMENTS)) for p in sorted(EXPERIMENTS.glob('*/*.py'))]


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_import_what_is_there(script, monkeypatch):
  before, known = set(sys.modules), set(flags.FLAGS)
  path = EXPERIMENTS / script
  monkeypatch.setattr(sys, 'path', [str(path.parent), *sys.path])  # as for python PATH
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')  # some scripts set these for themselves
  monkeypatch.setenv('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  try:
    runpy.run_path(str(path), run_name='imported')
  except ImportError as error:
    if error.name == 'torch':
      pytest.skip('needs torch')
    raise
  finally:
    for name in set(flags.FLAGS) - known:
      delattr(flags.FLAGS, name)
    for name in set(sys.modules) - before:
      if str(EXPERIMENTS) in (getattr(sys.modules[name], '__file__', None) or ''):
        del sys.modules[name]  # two folders have a run.py
