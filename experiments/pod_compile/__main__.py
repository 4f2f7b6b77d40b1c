"""Compiles the real training step for pods of TPUs that need not be there.

python experiments/pod_compile/run.py                 every row; writes results.json
python experiments/pod_compile/run.py --row=v5e:2x2,data,scs

Needs the extra `tpu` (libtpu) and no TPU. A row takes 3 to 50 minutes of one core to compile.
"""

import collections
import functools
import json
import math
import os
import pathlib
import re
import runpy
import subprocess
import sys
import time

os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # there is no chip to share

import jax
import numpy as np
from absl import app, flags
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / 'speed'), str(HERE.parent), str(ROOT)]

from networks import make_step, sharded  # noqa: E402
from results import write_between  # noqa: E402

from scs_jax.train import sharding  # noqa: E402

# One chip, as published: bfloat16 flops a second, bytes a second from its memory.
PEAKS = {'v5e': (197e12, 819e9), 'v5p': (459e12, 2765e9)}
ROWS = (
  'v5e:2x2,data,scs', 'v5e:2x2,data,conv', 'v5e:2x2,fsdp,scs', 'v5e:4x4,data,scs',
  'v5e:4x4,fsdp,scs', 'v5e:16x16,data,scs', 'v5e:16x16,fsdp,scs',
  'v5p:8x8x8,data,scs',
)  # fmt: skip
ROW = flags.DEFINE_string('row', None, 'TOPOLOGY,data or fsdp,VARIANT; all if not given.')
# The config's batch is for 16 chips; each chip gets as many rows everywhere.
ROWS_A_CHIP = 64
SIZES = {'f32': 4, 'bf16': 2, 's32': 4, 'u32': 4, 'pred': 1, 'u8': 1, 's8': 1, 'f16': 2, 's64': 8}
COLLECTIVES = (
  'all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute'
)  # fmt: skip


def make_mesh(topology: str, layout: str) -> Mesh:
  """Returns the mesh of the training loop on the chips of `topology`."""
  devices = np.array(topologies.get_topology_desc(topology, 'tpu').devices)
  fsdp = len(devices) if layout == 'fsdp' else 1
  return Mesh(
    devices.reshape(-1, fsdp), sharding.AXES, axis_types=(AxisType.Auto,) * len(sharding.AXES)
  )


def compile_step(mesh: Mesh, variant: str):
  """Returns the compiled step of configs/imagenet.py, and the shapes of its state."""
  config = runpy.run_path(str(ROOT / 'configs' / 'imagenet.py'))['get_config'](
    f'resnet50,variant={variant},batch={ROWS_A_CHIP * mesh.size}'
  )
  model, size = config.model.to_dict(), config.data.resolution
  variant, dtype = model.pop('variant'), model.pop('dtype')
  step, make_state, batch = make_step(
    (size, size, 3),
    model,
    variant,
    dtype,
    batch=config.batch_size,
    num_classes=1000,
    optimizer=config.optimizer.to_dict(),
    label_smoothing=config.label_smoothing,
    ema_decay=config.ema_decay,
    gather=functools.partial(sharding.gather, mesh),
  )  # images are augmented on the hosts
  step, _ = sharded(step, mesh, make_state)
  state = jax.eval_shape(make_state)
  return step.lower(state, batch).compile(), state


def collectives(text: str) -> dict[str, dict[str, int]]:
  """Returns, for each kind of collective in a compiled module, how many, and the bytes they give."""
  found = collections.defaultdict(lambda: {'count': 0, 'bytes': 0})
  kinds = '|'.join(COLLECTIVES)
  for shapes, kind in re.findall(rf'= (.*?) ({kinds})(?:-start)?\(', text):
    found[kind]['count'] += 1
    for dtype, sizes in re.findall(r'\b([a-z]+\d*)\[([\d,]*)\]', shapes):
      count = math.prod(int(size) for size in sizes.split(',') if size)
      found[kind]['bytes'] += SIZES.get(dtype, 4) * count
  return dict(found)


def report(row: str) -> dict:
  """Compiles a row and returns what the compiler says of it, for one chip."""
  topology, layout, variant = row.split(',')
  mesh = make_mesh(topology, layout)
  begun = time.perf_counter()
  compiled, state = compile_step(mesh, variant)
  seconds = time.perf_counter() - begun
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  rows = ROWS_A_CHIP * mesh.size
  flops, bandwidth = PEAKS[topology.partition(':')[0]]
  # The slower of computing and of reading and writing, each at the chip's peak.
  step_seconds = max(cost['flops'] / flops, cost['bytes accessed'] / bandwidth)
  return {
    'chips': mesh.size,
    'batch': rows,
    'arguments_bytes': memory.argument_size_in_bytes,
    'temporary_bytes': memory.temp_size_in_bytes,
    'flops': cost['flops'],
    'bytes_accessed': cost['bytes accessed'],
    'collectives': collectives(compiled.as_text()),
    'parameter_bytes': sum(4 * leaf.size for leaf in jax.tree.leaves(state['params'])),
    'projected_step_ms': 1e3 * step_seconds,
    'projected_images_per_second': rows / step_seconds,
    'compile_seconds': round(seconds),
  }


def check(row: str, result: dict) -> None:
  """Asserts that a data-parallel SCS net reduces its gradients and metrics, and nothing else.

  With fsdp it gathers parameters as well. The twin reduces statistics, which is not looked at.
  """
  _, layout, variant = row.split(',')
  if variant != 'scs':
    return
  found, gradients = result['collectives'], result['parameter_bytes']
  assert not set(found) & {'all-to-all', 'collective-permute'}, found
  if layout == 'data':
    moved = sum(kind['bytes'] for kind in found.values())
    # A reduction may be split in two halves, reduce-scatter and all-gather, and be padded.
    assert moved <= 2.1 * gradients + 1e6, (moved, gradients)


def table(results: dict[str, dict]) -> str:
  """Returns a Markdown table of what `report` returned for each row."""
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
      f'| {row.replace(",", ", ")} | {result["chips"]} | {result["arguments_bytes"] / 2**20:.0f} MiB '
      f'| {result["temporary_bytes"] / 2**30:.2f} GiB | {result["flops"] / 1e12:.2f} T '
      f'| {result["bytes_accessed"] / 1e9:.1f} GB | {result["projected_step_ms"]:.1f} ms '
      f'| {result["projected_images_per_second"]:,.0f} | {moved} |'
    )
  return '\n'.join(lines)


def main(_) -> None:
  if ROW.value is None:  # a process for each: the compiler keeps its memory
    for row in ROWS:
      subprocess.run([sys.executable, __file__, f'--row={row}'], check=True)
    return
  result = report(ROW.value)
  check(ROW.value, result)
  path = HERE / 'results.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  results[ROW.value] = result
  results = {row: results[row] for row in ROWS if row in results}
  path.write_text(json.dumps(results, indent=1) + '\n')
  write_between(HERE / 'README.md', 'table', table(results))
  print(table({ROW.value: result}), flush=True)


if __name__ == '__main__':
  app.run(main)
