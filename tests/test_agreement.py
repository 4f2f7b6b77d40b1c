"""Hosts that differ are named before the first step, and copies that differ before a checkpoint."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from test_train import small_config

from scs_jax.train import Experiment, State, agreement, sharding

PROGRAM = """
import os, pathlib, sys
import jax
index, folder = int(sys.argv[2]), pathlib.Path(sys.argv[3])
jax.config.update('jax_num_cpu_devices', 1 + index)
jax.distributed.initialize(sys.argv[1], 2, index)
from test_agreement import diverged
from test_train import small_config
from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment, agreement
from scs_jax.workdir import processes

# Two machines: each has its own copy of the data set's code, and they are not the same.
home = folder / str(index)
home.mkdir()
(home / 'my_data.py').write_text(
  'from scs_jax import data\\n'
  f'number = {index}\\n'
  'def load(split):\\n'
  '  return data.load("mnist5k", split)\\n'
  'def absent_on_one(split):\\n'
  '  return data.load("mnist5k", split) if number else open("images_of_host_0")\\n'
)
sys.path.insert(0, str(home))

def case(mode='train', workdir=folder, **changes):
  config = small_config()
  for key, value in changes.items():
    config.update_from_flattened_dict({key.replace('__', '.'): value})
  try:
    agreement.check_hosts(Experiment(config), workdir, mode)
  except Exception as error:
    print('case:', type(error).__name__, error, flush=True)

assert processes.gather({'mine': index}) == [{'mine': 0}, {'mine': 1}]
case()
case(seed=index)
case(optimizer__schedule__peak_learning_rate=0.1 * (1 + index))
case(data__train_split=f'train[:{64 + index}]', data__workers=index)
case(data__name='my_data:load')
case(data__name='my_data:absent_on_one')
case(mode=('eval', 'train')[index], workdir=folder / str(index))
try:
  agreement.check_replicas(3, diverged())
except agreement.DivergedError as error:
  print('case:', error, flush=True)
"""


def diverged(sharded=()) -> State:
  """Returns a state whose copies of a parameter differ on the last device."""
  mesh = sharding.make_mesh(-1, 1)
  place = NamedSharding(mesh, PartitionSpec(*sharded))
  here = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
  last = mesh.devices.flat[-1]
  copies = [jax.device_put(jnp.full(8, float(d == last)), d) for d in here]
  array = jax.make_array_from_single_device_arrays((8,), place, copies)
  return State({'scs_0': {'kernel': array, 'other': jnp.ones(3)}}, {}, {})


def test_two_hosts_that_differ_hear_in_what(tmp_path):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{s.getsockname()[1]}'
  here = os.path.dirname(__file__)
  environment = {**os.environ, 'PYTHONPATH': f'{here}:{os.path.dirname(here)}'}
  environment.pop('XLA_FLAGS', None)
  pair = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM, address, str(index), str(tmp_path)],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(2)
  ]
  outputs = [process.communicate(timeout=240)[0] for process in pair]
  assert [process.returncode for process in pair] == [0, 0], outputs
  cases = [
    [line.removeprefix('case: ') for line in said.splitlines() if line.startswith('case: ')]
    for said in outputs
  ]
  devices, seed, rate, split, code, absent, mode, copies = cases[0]
  assert cases[1][:5] + cases[1][6:] == cases[0][:5] + cases[0][6:]  # every host says the same
  where = f'on process 1 on {socket.gethostname()}'
  assert devices.startswith(f'ArgumentError the number of devices is 2 {where} and 1 on process 0')
  assert f'config.seed is 1 {where} and 0 on process 0' in seed
  assert f'config.optimizer.schedule.peak_learning_rate is 0.2 {where} and 0.1' in rate
  assert "config.data.train_split is 'train[:65]'" in split
  assert 'training data is 65 images (28, 28, 1) of 10 classes, labels' in split
  assert 'workers' not in split
  assert 'the code of my_data.py is' in code
  assert absent.startswith('FileNotFoundError')  # of its own, with its traceback
  assert cases[1][5].startswith('ArgumentError process 0 on')
  assert (
    "cannot start (FileNotFoundError: [Errno 2] No such file or directory: 'images" in cases[1][5]
  )
  assert '--mode is train' in mode
  assert f'--workdir is {tmp_path}/1 {where} and {tmp_path}/0' in mode
  assert 'after step 3 process 1 has other values of params/scs_0/kernel' in copies


def test_hosts_that_agree_pass_and_only_the_first_differences_are_told():
  same = {'host': 'a', 'seed': '0', 'jax': '0.10'}
  assert agreement.differences([same, {**same, 'host': 'b'}]) == ''
  other = {'host': 'b', 'seed': '1', 'jax': '0.12', 'more': 'x' * 200, 'most': ''}
  said = agreement.differences([same, other, same])
  assert said.startswith('seed is 1 on process 1 on b and 0 on process 0 on a; jax is 0.12 on')
  assert 'more is xxx' in said
  assert 'x' * 101 not in said
  assert '1 more differ' in said


def test_a_fingerprint_tells_data_and_settings_apart(tmp_path, monkeypatch):
  config = small_config()
  found = agreement.fingerprint(Experiment(config), tmp_path, 'train')
  assert agreement.fingerprint(Experiment(config), tmp_path, 'train') == found
  assert 'training data' not in agreement.fingerprint(Experiment(config), tmp_path, 'eval')
  examples = Experiment(config).train_set
  changed = type(examples)(examples.images, (examples.labels + 1) % 10, 10)
  other = agreement.fingerprint(Experiment(config, train=changed), tmp_path, 'train')
  differing = {name for name in found if other[name] != found[name]}
  assert differing == {'training data', 'config.data.name'}  # given examples have no name
  with jax.default_matmul_precision('highest'):
    other = agreement.fingerprint(Experiment(config), tmp_path, 'train')
  assert {name for name in found if other[name] != found[name]} == {'jax_default_matmul_precision'}
  for flags, same in (('--xla_dump_to=/here', True), ('--xla_cpu_enable_fast_math=true', False)):
    monkeypatch.setenv('XLA_FLAGS', f'{os.environ.get("XLA_FLAGS", "")} {flags}')
    assert (agreement.fingerprint(Experiment(config), tmp_path, 'train') == found) == same


def test_copies_that_differ_are_found_on_one_host_too():
  with pytest.raises(
    agreement.DivergedError, match='process 0 has other values of params/scs_0/kernel'
  ):
    agreement.check_replicas(1, diverged())
  mesh = sharding.make_mesh(2, 4)
  place = NamedSharding(mesh, PartitionSpec('fsdp'))
  whole = jax.device_put(np.arange(8.0), place)
  agreement.check_replicas(1, State({'kernel': whole}, {}, {}))  # parts differ, copies do not
  parts = [shard.data for shard in whole.addressable_shards]
  parts[5] = parts[5] + 1
  broken = jax.make_array_from_single_device_arrays((8,), place, parts)
  with pytest.raises(agreement.DivergedError, match='values of params/kernel'):
    agreement.check_replicas(1, State({'kernel': broken}, {}, {}))
