"""Eight CPU devices for every test, as in tests/conftest.py, and modules that define flags."""

import atexit
import importlib
import os
import shutil
import sys
import tempfile

import jax
import pytest
from absl import flags

# XLA's older emitters compile for the CPU in half the time. jax 0.11 and later have only the new.
if jax.__version_info__ < (0, 11):
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('PJRT_NPROC', '16')  # spare threads, as sharding.use_cpu_cores has them
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# All test processes share one compilation cache. The first of them makes its folder and removes it.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  compiled = tempfile.mkdtemp(prefix='compiled-')
  atexit.register(shutil.rmtree, compiled, ignore_errors=True)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = compiled
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'
  jax.config.update('jax_compilation_cache_dir', compiled)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


@pytest.fixture
def quick_compilation():
  """Halves the time of tests that compile much and compute little."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture
def load(monkeypatch):
  """Imports a module by name, e.g. 'experiments.zoo.accuracy', with no flags but its own.

  After the test, its flags and the modules that it imported are forgotten: two commands may have a
  flag of the same name.
  """
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')  # some modules set these
  monkeypatch.setenv('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # `sharding.use_cpu_cores` keeps the eight
  modules = set(sys.modules)
  others = {
    name: flags.FLAGS[name]
    for name in flags.FLAGS
    if (flags.FLAGS.find_module_defining_flag(name) or '').startswith('experiments')
  }
  for name in others:
    delattr(flags.FLAGS, name)
  known = set(flags.FLAGS)
  yield importlib.import_module
  for name in set(flags.FLAGS) - known:
    delattr(flags.FLAGS, name)
  for name, flag in others.items():
    flags.FLAGS[name] = flag
  for name in set(sys.modules) - modules:
    if name.startswith('experiments.'):
      del sys.modules[name]
