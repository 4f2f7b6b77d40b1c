"""Compiles for a TPU v5e that need not be there, and reads what the compiler counted."""

import dataclasses
import math
import os
from collections.abc import Callable

os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from layers import SHAPES, Shape, formulations, forward, value_and_gradients
from networks import make_step, networks

LAYERS = 4
BATCH = 128
ROWS = (
  'convolution',
  'convolution + BatchNorm + ReLU',
  'SCS, auto',
  'SCS, kernel of ones (peers)',
)


class Chain(nnx.Module):
  """Layers one after the other; the first has the shape's features, the others its output's."""

  def __init__(self, shape: Shape, row: str, dtype: jnp.dtype):
    after = dataclasses.replace(shape, features=(shape.features[1],) * 2, strides=1)
    shapes = [shape] + [after] * (LAYERS - 1)
    self.layers = nnx.List([formulations(s, dtype)[row] for s in shapes])

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return x


def one_chip() -> NamedSharding:
  """Returns the sharding that puts everything on one chip of a v5e."""
  devices = topologies.get_topology_desc('v5e:2x2', 'tpu').devices
  return NamedSharding(Mesh(np.array(devices[:1]), ('data',)), PartitionSpec())


def cost(function, *shapes) -> dict[str, float]:
  """Returns flops, bytes accessed and peak temporary bytes of `function`, compiled for the chip."""
  here = one_chip()
  compiled = jax.jit(function, in_shardings=here, out_shardings=here).lower(*shapes).compile()
  counted = compiled.cost_analysis()
  return {
    'flops': counted['flops'],
    'bytes accessed': counted['bytes accessed'],
    'temporary bytes': compiled.memory_analysis().temp_size_in_bytes,
  }


def chain_cost(shape: Shape, row: str, dtype: jnp.dtype) -> dict[str, float]:
  """The value and all gradients of a chain of equal layers on a batch of 128."""
  shape = dataclasses.replace(shape, batch=BATCH)
  params, apply = forward(Chain(shape, row, dtype))
  x = jax.ShapeDtypeStruct(shape.image, dtype)
  y = jax.eval_shape(apply, params, x)[0]
  return cost(value_and_gradients(apply), params, x, y)


def step_cost(image, sizes, variant: str, dtype: jnp.dtype) -> dict[str, float]:
  """A whole training step."""
  step, make_state, batch = make_step(image, sizes, variant, dtype)
  return cost(step, jax.eval_shape(make_state), batch)


def tables(result: dict, keep: Callable[[dict], None]) -> dict:
  """Prints and returns both tables; goes on from `result`, and calls `keep` after each compilation.

  A row takes minutes to compile, all of them an hour.
  """
  for dtype in (jnp.bfloat16, jnp.float32):
    name = jnp.dtype(dtype).name
    rows = result.setdefault(name, {})
    for shape in SHAPES:
      costs = rows.setdefault(shape.name, {})
      for row in ROWS:
        if row not in costs:
          costs[row] = chain_cost(shape, row, dtype)
          keep(result)
      block = costs[ROWS[1]]['bytes accessed']
      sizes = ' '.join(
        f'{costs[row]["bytes accessed"] / 1e6:8.0f} MB ({costs[row]["bytes accessed"] / block:.2f})'
        for row in ROWS
      )
      print(f'{name} {shape.name:26s}{sizes}', flush=True)
    ratio = lambda row: row[ROWS[2]]['bytes accessed'] / row[ROWS[1]]['bytes accessed']
    ratios = [ratio(rows[shape.name]) for shape in SHAPES if shape.groups == 1]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f'{name}: SCS / block: geometric mean {mean:.2f}, highest {max(ratios):.2f}')
  image, sizes = networks()['ResNet-18 at 32 pixels']
  for dtype in (jnp.bfloat16, jnp.float32):
    pair = result.setdefault(f'ResNet-18 step, {jnp.dtype(dtype).name}', {})
    for variant in ('scs', 'conv'):
      if variant not in pair:
        pair[variant] = step_cost(image, sizes, variant, dtype)
        keep(result)
    ratio = {key: value / pair['conv'][key] for key, value in pair['scs'].items()}
    print(f'ResNet-18 step, {jnp.dtype(dtype).name}: SCS / twin: {ratio}', flush=True)
  return result
