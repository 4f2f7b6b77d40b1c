import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

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


@pytest.mark.parametrize(
  ('cores', 'batch', 'devices'), [(4, 128, 4), (4, 6, 3), (3, 128, 2), (4, 7, 1)]
)
def test_cpu_cores_become_devices_that_divide_the_batch(cores, batch, devices):
  code = (
    f'import os; os.sched_getaffinity = lambda _: range({cores})\n'
    f'import jax; from scs_jax.train import sharding; sharding.use_cpu_cores({batch})\n'
    'print(jax.device_count("cpu"))'
  )
  run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert int(run.stdout) == devices


@pytest.mark.parametrize(
  'given',
  [{'JAX_NUM_CPU_DEVICES': '3'}, {'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}],
)
def test_a_given_count_of_cpu_devices_stays_and_has_spare_threads_too(given):
  code = (
    'import os; os.sched_getaffinity = lambda _: range(4)\n'
    'import jax; from scs_jax.train import sharding; sharding.use_cpu_cores(128)\n'
    'print(jax.device_count("cpu"), os.environ["PJRT_NPROC"])'
  )
  known = ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS', 'PJRT_NPROC')
  environment = {name: value for name, value in os.environ.items() if name not in known} | given
  run = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment
  )
  assert run.stdout.split() == ['3', '9']
