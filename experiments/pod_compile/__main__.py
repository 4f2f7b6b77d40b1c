"""Compiles the real training step for pods of TPUs, without a TPU.

python -m experiments.pod_compile                     every row
python -m experiments.pod_compile --row=v5e:2x2,data,scs

Adds a line to results.jsonl and writes the table of the README from it. Needs the extra `tpu`
(libtpu). A row takes 3 to 50 minutes of one CPU core to compile.
"""

import collections
import math
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from experiments.flags import run
from experiments.results import ROOT, Trial, append, newest, read, write_between
from experiments.speed.networks import batch_shapes
from experiments.speed.tpu import without_a_chip
from scs_jax.data import Examples
from scs_jax.train import Experiment, sharding

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results.jsonl'
# Of one chip, as published: bfloat16 flops per second, and bytes per second from its memory.
PEAKS = {'v5e': (197e12, 819e9), 'v5p': (459e12, 2765e9)}
ROWS = (
  'v5e:2x2,data,scs',
  'v5e:2x2,data,conv',
  'v5e:2x2,fsdp,scs',
  'v5e:4x4,data,scs',
  'v5e:4x4,fsdp,scs',
  'v5e:16x16,data,scs',
  'v5e:16x16,fsdp,scs',
  'v5p:8x8x8,data,scs',
)
ROW = flags.DEFINE_enum('row', None, ROWS, 'TOPOLOGY,data or fsdp,VARIANT; every row if not given.')
IMAGES, CLASSES = 1_281_167, 1000  # of ImageNet's training split
ROWS_A_CHIP = 64  # as the config has on 16 chips
SIZES = {'f32': 4, 'bf16': 2, 's32': 4, 'u32': 4, 'pred': 1, 'u8': 1, 's8': 1, 'f16': 2, 's64': 8}
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')


def make_mesh(topology: str, layout: str) -> Mesh:
  """Returns the mesh of the training loop on the chips of `topology`."""
  devices = np.array(topologies.get_topology_desc(topology, 'tpu').devices)
  fsdp = len(devices) if layout == 'fsdp' else 1
  return Mesh(
    devices.reshape(-1, fsdp), sharding.AXES, axis_types=(AxisType.Auto,) * len(sharding.AXES)
  )


def imagenet(variant: str, chips: int) -> Experiment:
  """Returns the experiment of configs/imagenet.py, with ImageNet's sizes but without its images."""
  path = f'configs/imagenet.py:resnet50,variant={variant},batch={ROWS_A_CHIP * chips}'
  config: Any = Trial(path, seed=0).load()
  size = config.data.resolution
  # All images are one zero in memory.
  images = np.broadcast_to(np.uint8(0), (IMAGES, size, size, 3))
  examples = Examples(images, np.zeros(IMAGES, np.int32), CLASSES)
  return Experiment(config, train=examples, test=examples)


def collectives(text: str) -> dict[str, dict[str, int]]:
  """Returns the number and the output bytes of each kind of collective in a compiled module."""
  found = collections.defaultdict(lambda: {'count': 0, 'bytes': 0})
  kinds = '|'.join(COLLECTIVES)
  for shapes, kind in re.findall(rf'= (.*?) ({kinds})(?:-start)?\(', text):
    found[kind]['count'] += 1
    for dtype, sizes in re.findall(r'\b([a-z]+\d*)\[([\d,]*)\]', shapes):
      count = math.prod(int(size) for size in sizes.split(',') if size)
      found[kind]['bytes'] += SIZES.get(dtype, 4) * count
  return dict(found)


def report(row: str) -> dict[str, Any]:
  """Compiles a row and returns what the compiler reports for one chip."""
  topology, layout, variant = row.split(',')
  mesh = make_mesh(topology, layout)
  experiment = imagenet(variant, mesh.size)
  step: Any = experiment.train_step(mesh)
  state, batch = experiment.abstract_state(mesh), batch_shapes(experiment)
  begun = time.perf_counter()
  compiled = step.lower(state, batch).compile()
  seconds = time.perf_counter() - begun
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  assert cost is not None, 'the compiler counted nothing'
  assert memory is not None, 'the compiler measured no memory'
  rows = ROWS_A_CHIP * mesh.size
  flops, bandwidth = PEAKS[topology.partition(':')[0]]
  # The slower of computing and moving bytes, each at the chip's peak.
  step_seconds = max(cost['flops'] / flops, cost['bytes accessed'] / bandwidth)
  return {
    'chips': mesh.size,
    'batch': rows,
    'arguments_bytes': memory.argument_size_in_bytes,
    'temporary_bytes': memory.temp_size_in_bytes,
    'flops': cost['flops'],
    'bytes_accessed': cost['bytes accessed'],
    'collectives': collectives(compiled.as_text()),
    'parameter_bytes': sum(4 * leaf.size for leaf in jax.tree.leaves(state.params)),
    'projected_step_ms': 1e3 * step_seconds,
    'projected_images_per_second': rows / step_seconds,
    'compile_seconds': round(seconds),
  }


def check(row: str, result: Mapping[str, Any]) -> None:
  """Asserts that a data-parallel SCS network reduces its gradients and metrics, and nothing else.

  With fsdp it also gathers parameters. The twin, which also reduces statistics, is not checked.
  """
  _, layout, variant = row.split(',')
  if variant != 'scs':
    return
  found, gradients = result['collectives'], result['parameter_bytes']
  assert not set(found) & {'all-to-all', 'collective-permute'}, found
  if layout == 'data':
    moved = sum(kind['bytes'] for kind in found.values())
    # A reduction may be padded, and split into reduce-scatter and all-gather.
    assert moved <= 2.1 * gradients + 1e6, (moved, gradients)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns a Markdown table of results, by row."""
  lines = [
    '| pod, layout, network | chips | state and batch | temporary | flops | bytes | step at best '
    '| images/s at best | collectives |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  for row, result in results.items():
    moved = ', '.join(
      f'{found["count"]} {kind}, {found["bytes"] / 1e6:.0f} MB'
      for kind, found in result['collectives'].items()
    )
    lines.append(
      f'| {row.replace(",", ", ")} | {result["chips"]} '
      f'| {result["arguments_bytes"] / 2**20:.0f} MiB '
      f'| {result["temporary_bytes"] / 2**30:.2f} GiB | {result["flops"] / 1e12:.2f} T '
      f'| {result["bytes_accessed"] / 1e9:.1f} GB | {result["projected_step_ms"]:.1f} ms '
      f'| {result["projected_images_per_second"]:,.0f} | {moved} |'
    )
  return '\n'.join(lines)


def write_table() -> None:
  """Writes the table of the README from the newest line of each row."""
  lines = {line['row']: line for line in newest(read(RESULTS), 'row')}
  results = {row: lines[row] for row in ROWS if row in lines}
  write_between(HERE / 'README.md', 'table', table(results))


def main(_) -> None:
  if ROW.value is None:  # one process for each row, because the compiler keeps its memory
    for row in ROWS:
      command = [sys.executable, '-m', 'experiments.pod_compile', f'--row={row}']
      subprocess.run(command, cwd=ROOT, check=True)
    return
  without_a_chip()
  result = report(ROW.value)
  check(ROW.value, result)
  append(RESULTS, {'row': ROW.value}, result)
  write_table()
  print(table({ROW.value: result}), flush=True)


if __name__ == '__main__':
  run(main)
