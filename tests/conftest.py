"""Eight CPU devices for every test, and JAX's strictest arithmetic where it can be had."""

import atexit
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile

import jax
import pytest

# XLA's older emitters compile for the CPU in half the time. jax 0.11 and later have only the new.
if jax.__version_info__ < (0, 11):
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('PJRT_NPROC', '16')  # spare threads, as sharding.use_cpu_cores has them
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Programs that take long to compile are compiled once for all tests, their processes and those they
# start. The first of these processes makes the folder, which begins empty and goes with it.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  compiled = tempfile.mkdtemp(prefix='compiled-')
  atexit.register(shutil.rmtree, compiled, ignore_errors=True)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = compiled
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'
  jax.config.update('jax_compilation_cache_dir', compiled)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # so that tests share oracles.py


def pytest_collection_modifyitems(config, items):
  """Leaves the tests marked `exhaustive` out unless `-m` speaks of them."""
  if 'exhaustive' not in config.getoption('-m'):
    long = [item for item in items if item.get_closest_marker('exhaustive')]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope='module')
def strict_promotion():
  """Mixed dtypes are an error unless the code asks for what they promote to."""
  with jax.numpy_dtype_promotion('strict'):
    yield


@pytest.fixture
def version_0_1_0(tmp_path):
  """A workdir that version 0.1.0 wrote on eight devices: four steps of a small quickstart."""
  with tarfile.open(pathlib.Path(__file__).parent / 'workdir_0_1_0.tar.xz') as archive:
    archive.extractall(tmp_path / 'version_0_1_0', filter='data')
  return tmp_path / 'version_0_1_0'


@pytest.fixture
def quick_compilation():
  """Halves the time of tests that compile much and compute little."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)
