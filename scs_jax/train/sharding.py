"""Where arrays live: the mesh, the sharding of every parameter, and global batches."""

import math
import os
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scs_jax.errors import ArgumentError

AXES = ('data', 'fsdp')


def use_cpu_cores(batch_size: int) -> None:
  """Lets JAX see as many CPU devices as there are cores, if they divide the batch.

  XLA:CPU runs a convolution on one core. With one device per core and the batch sharded over them,
  all cores work, on the code path of a pod. The count is the largest that divides `batch_size`.
  Call it before JAX is used. A count set in the environment is kept; accelerators are not affected.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  given = re.search(
    r'xla_force_host_platform_device_count=(\d+)', os.environ.get('XLA_FLAGS', '')
  ) or re.fullmatch(r'(\d+)', os.environ.get('JAX_NUM_CPU_DEVICES', ''))
  if given:
    devices = int(given[1])
  else:
    devices = max(n for n in range(1, cores + 1) if batch_size % n == 0)
    jax.config.update('jax_num_cpu_devices', devices)
  # All devices run on one pool of threads, and a device that waits in an all-reduce holds its
  # thread. With one thread per core XLA once waited for ever on a busy machine: add spare ones.
  os.environ.setdefault('PJRT_NPROC', str(devices + cores + 2))


def devices() -> list[Any]:
  """Returns all devices of all processes.

  Raises:
    ArgumentError: the platform that the environment asks for is not there.
  """
  try:
    return jax.devices()
  except (RuntimeError, AssertionError) as error:  # JAX asserts where it finds no plug-in
    asked = jax.config.values['jax_platforms']
    said = str(error) or f'{asked} has no plug-in here'
    raise ArgumentError(
      f'JAX_PLATFORMS={asked!r} cannot be used: {said}. Install its jaxlib, such as jax[cuda13] or '
      'jax[tpu], free the device, or unset the variable'
    ) from error


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
  """Returns a mesh of all devices with the axes `data` and `fsdp`.

  Args:
    data: devices along which only the batch is split; -1 takes what is left.
    fsdp: devices along which the batch, parameters and optimizer state are split.

  Raises:
    ArgumentError: if the sizes do not multiply to the number of devices.
  """
  available = devices()
  sizes = {'data': data, 'fsdp': fsdp}
  if any(size < 1 and size != -1 for size in sizes.values()) or data == fsdp == -1:
    raise ArgumentError(f'mesh sizes must be positive, one may be -1; got {sizes}')
  known = math.prod(size for size in sizes.values() if size != -1)
  sizes = {axis: len(available) // known if n == -1 else n for axis, n in sizes.items()}
  if math.prod(sizes.values()) != len(available):
    raise ArgumentError(
      f'mesh data={data}, fsdp={fsdp} does not fit the {len(available)} devices: their product '
      f'must be {len(available)}, and -1 takes what is left'
    )
  return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def parts(accumulate_steps: int, mixup: float) -> int:
  """Returns by what the rows of each device must divide: parts of the batch, and pairs of mixup."""
  return math.lcm(accumulate_steps, 2 if mixup else 1)


def check_batch(mesh: Mesh, batch_size: int, parts: int = 1) -> None:
  """Raises ArgumentError unless every device gets the same number of rows, in so many parts."""
  unit = mesh.size * parts
  if batch_size % unit:
    lower = batch_size - batch_size % unit
    nearest = f'{lower} or {lower + unit}' if lower else f'{unit}'
    by = f'the {mesh.size} devices'
    if parts > 1:
      by += f' times the {parts} parts that accumulate_steps and the pairs of augment.mixup need'
    raise ArgumentError(f'batch_size {batch_size} does not divide by {by}: use {nearest}')


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its rows over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def parameter_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
  """Splits the largest dimension that `fsdp` divides (the last of equals); else replicates."""
  candidates = [i for i, size in enumerate(shape) if size % fsdp == 0 and size >= fsdp]
  if fsdp == 1 or not candidates:
    return PartitionSpec()
  axis = max(candidates, key=lambda i: (shape[i], i))
  return PartitionSpec(*(None,) * axis, 'fsdp')


def state_shardings(mesh: Mesh, abstract_state):
  """Returns a sharding for every leaf of a state of shapes: parameters, optimizer state, EMA."""
  fsdp = mesh.shape['fsdp']
  return jax.tree.map(
    lambda leaf: NamedSharding(mesh, parameter_spec(leaf.shape, fsdp)), abstract_state
  )


def gather(mesh: Mesh, params):
  """Returns parameters that are whole on every device; for use inside the differentiated function.

  The transpose makes the gradients whole before each device keeps its part. Without this the
  compiler carries the splits into the convolutions and exchanges kernels in rings, or even images.
  """
  return jax.lax.with_sharding_constraint(params, replicated(mesh))


def to_global(mesh: Mesh, rows: dict[str, np.ndarray]) -> dict[str, jax.Array]:
  """Joins every process's rows of a batch into arrays that are split over all devices."""
  sharding = batch_sharding(mesh)
  return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), rows)
