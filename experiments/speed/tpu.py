"""Compiles for one chip of a TPU v5e, without a TPU, and keeps what the compiler counts."""

import dataclasses
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.results import add_missing
from experiments.speed import report
from experiments.speed.layers import (
  BLOCK,
  CONVOLUTION,
  ONES_KERNEL,
  SCS,
  SHAPES,
  Shape,
  formulations,
  forward,
  value_and_gradients,
)
from experiments.speed.networks import batch_shapes, networks, on_random_images, settings
from scs_jax.errors import MissingPackageError

LAYERS = 4
BATCH = 128
FORMULATIONS = (CONVOLUTION, BLOCK, SCS, ONES_KERNEL)
NETWORK = 'ResNet-18 at 32 pixels'
TYPES = ('bfloat16', 'float32')


class Chain(nnx.Module):
  """Four layers in a row; the first has the features of the shape, the others those of its output.

  Args:
    shape: of the first layer.
    formulation: one of `FORMULATIONS`.
    dtype: of products and activations.
  """

  def __init__(self, shape: Shape, formulation: str, dtype: jax.typing.DTypeLike):
    after = dataclasses.replace(shape, features=(shape.features[1],) * 2, strides=1)
    shapes = [shape] + [after] * (LAYERS - 1)
    self.layers = nnx.List([formulations(s, dtype)[formulation] for s in shapes])

  def __call__(self, x: jax.Array) -> jax.Array:
    for layer in self.layers:
      x = layer(x)
    return x


def without_a_chip() -> None:
  """Lets libtpu compile on a machine without a TPU. Call it before JAX is used.

  Raises:
    MissingPackageError: libtpu is not installed.
  """
  if not importlib.util.find_spec('libtpu'):
    raise MissingPackageError(
      "libtpu, the compiler for TPUs, is not installed: pip install -e '.[train,tpu]'"
    )
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # no process holds a chip
  jax.config.update('jax_platforms', 'cpu')


def one_chip() -> NamedSharding:
  """Returns the sharding that puts everything on one chip of a v5e."""
  devices = topologies.get_topology_desc('v5e:2x2', 'tpu').devices
  return NamedSharding(Mesh(np.array(devices[:1]), ('data',)), PartitionSpec())


def cost(function: Callable, *shapes: Any) -> dict[str, float]:
  """Returns flops, bytes accessed and peak temporary bytes of `function`, compiled for the chip."""
  here = one_chip()
  compiled = jax.jit(function, in_shardings=here, out_shardings=here).lower(*shapes).compile()
  counted, memory = compiled.cost_analysis(), compiled.memory_analysis()
  assert counted is not None, 'the compiler counted nothing'
  assert memory is not None, 'the compiler measured no memory'
  return {
    'flops': counted['flops'],
    'bytes accessed': counted['bytes accessed'],
    'temporary bytes': memory.temp_size_in_bytes,
  }


def chain_cost(shape: Shape, formulation: str, dtype: jax.typing.DTypeLike) -> dict[str, float]:
  """Returns the cost of value and all gradients of a chain on a batch of 128."""
  shape = dataclasses.replace(shape, batch=BATCH)
  params, apply = forward(Chain(shape, formulation, dtype))
  x = jax.ShapeDtypeStruct(shape.image, dtype)
  y = jax.eval_shape(apply, params, x)[0]
  return cost(value_and_gradients(apply), params, x, y)


def step_cost(variant: str, dtype: str) -> dict[str, float]:
  """Returns the cost of a whole training step of ResNet-18 on images of 32 pixels."""
  image, model = networks()[NETWORK]
  experiment = on_random_images(settings({**model, 'variant': variant, 'dtype': dtype}), image)
  return cost(experiment.train_step_function(), experiment.state_shapes, batch_shapes(experiment))


def compile_missing() -> None:
  """Adds what is missing in `report.RESULTS`. Each line takes minutes to compile."""
  without_a_chip()
  for dtype in TYPES:
    for shape in SHAPES:
      for formulation in FORMULATIONS:
        key = {'table': 'tpu layers', 'layer': shape.name, 'formulation': formulation}
        make = lambda s=shape, f=formulation, d=dtype: chain_cost(s, f, jnp.dtype(d))
        add_missing(report.RESULTS, {**key, 'dtype': dtype}, make)
  for dtype in TYPES:
    for variant in ('scs', 'conv'):
      key = {'table': 'tpu steps', 'network': NETWORK, 'variant': variant, 'dtype': dtype}
      add_missing(report.RESULTS, key, lambda v=variant, d=dtype: step_cost(v, d))
