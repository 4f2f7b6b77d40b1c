import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from scs_jax.errors import ArgumentError
from scs_jax.train import sharding


@pytest.mark.parametrize(
  ('sizes', 'shape'),
  [
    ({}, (8, 1)),
    ({'data': -1, 'fsdp': 4}, (2, 4)),
    ({'data': 4, 'fsdp': -1}, (4, 2)),
    ({'data': 2, 'fsdp': 4}, (2, 4)),
  ],
)
def test_minus_one_takes_what_is_left(sizes, shape):
  assert tuple(sharding.make_mesh(**sizes).shape.values()) == shape


@pytest.mark.parametrize('sizes', [(3, 1), (-1, 3), (0, 8), (-1, -1), (-2, 1), (16, 1)])
def test_sizes_that_do_not_fit_are_named(sizes):
  with pytest.raises(ValueError, match='mesh'):
    sharding.make_mesh(*sizes)


@pytest.mark.parametrize(
  ('shape', 'fsdp', 'spec'),
  [
    ((3, 3, 64, 128), 8, PartitionSpec(None, None, None, 'fsdp')),
    ((3, 3, 128, 64), 8, PartitionSpec(None, None, 'fsdp')),
    ((3, 3, 64, 64), 8, PartitionSpec(None, None, None, 'fsdp')),
    ((5, 5, 3, 10), 8, PartitionSpec()),
    ((), 8, PartitionSpec()),
    ((64,), 1, PartitionSpec()),
  ],
)
def test_the_largest_dimension_that_divides_is_split(shape, fsdp, spec):
  assert sharding.parameter_spec(shape, fsdp) == spec


def test_a_batch_is_split_over_all_devices():
  mesh = sharding.make_mesh(2, 4)
  rows = {'image': np.arange(32, dtype=np.uint8).reshape(16, 2)}
  batch = sharding.to_global(mesh, rows)['image']
  assert len({shard.device for shard in batch.addressable_shards}) == 8
  assert {shard.data.shape for shard in batch.addressable_shards} == {(2, 2)}
  np.testing.assert_array_equal(batch, rows['image'])


def test_state_shardings_follow_the_rule():
  mesh = sharding.make_mesh(2, 4)
  state = jax.eval_shape(lambda: {'kernel': jnp.zeros((3, 3, 8, 6)), 'count': jnp.zeros((), int)})
  specs = jax.tree.map(lambda s: s.spec, sharding.state_shardings(mesh, state))
  assert specs == {'kernel': PartitionSpec(None, None, 'fsdp'), 'count': PartitionSpec()}


def test_a_batch_that_does_not_divide_is_told_the_nearest():
  mesh = sharding.make_mesh()
  sharding.check_batch(mesh, 16)
  with pytest.raises(
    ValueError, match='batch_size 20 does not divide by the 8 devices: use 16 or 24'
  ):
    sharding.check_batch(mesh, 20)
  with pytest.raises(ValueError, match='use 8'):
    sharding.check_batch(mesh, 3)


@pytest.fixture
def machine(monkeypatch):
  """A machine with some cores, whose environment sets no count; returns what JAX is told."""
  told = []

  def machine(cores, **environment):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(cores), raising=False)
    for name in ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS', 'PJRT_NPROC'):
      monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.config, 'update', lambda *words: told.append(words))
    return told

  return machine


@pytest.mark.parametrize(
  ('cores', 'batch', 'devices'), [(4, 128, 4), (4, 6, 3), (3, 128, 2), (4, 7, 1)]
)
def test_cpu_cores_become_devices_that_divide_the_batch(machine, cores, batch, devices):
  told = machine(cores)
  sharding.use_cpu_cores(batch)
  assert told == [('jax_num_cpu_devices', devices)]


@pytest.mark.parametrize(
  'given',
  [{'JAX_NUM_CPU_DEVICES': '3'}, {'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}],
)
def test_a_given_count_of_cpu_devices_stays_and_has_spare_threads_too(machine, given):
  told = machine(4, **given)
  sharding.use_cpu_cores(128)
  assert told == []
  assert os.environ['PJRT_NPROC'] == '9'


def test_jax_has_the_devices_that_it_is_told():
  code = (
    'import os; os.sched_getaffinity = lambda _: range(4)\n'
    'import jax; from scs_jax.train import sharding; sharding.use_cpu_cores(6)\n'
    'print(jax.device_count("cpu"))'
  )
  known = ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS', 'PJRT_NPROC')
  environment = {name: value for name, value in os.environ.items() if name not in known}
  run = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment
  )
  assert int(run.stdout) == 3


def test_a_platform_that_is_not_there_is_told(monkeypatch):
  def refuse():
    raise RuntimeError("Unable to initialize backend 'tpu'")

  monkeypatch.setattr(jax, 'devices', refuse)
  with pytest.raises(
    ArgumentError, match=r"JAX_PLATFORMS='cpu' cannot .*'tpu'.*unset the variable"
  ):
    sharding.make_mesh()
