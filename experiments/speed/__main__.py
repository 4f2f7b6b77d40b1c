"""What an SCS layer costs beside the block it replaces; prints tables, writes results.json.

python experiments/speed/run.py                     every table that runs here, each in a process
python experiments/speed/run.py --table=layers      one of layers, pool, steps, loop, start, pages, tpu
"""

import argparse
import functools
import json
import math
import operator
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results.json'
BLOCK = 'convolution + BatchNorm + ReLU'
SLOW = 'SCS, patches'  # seconds: on the first shape only


def layers() -> dict:
  """Milliseconds of each layer, forward and value with all gradients, on one CPU device."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  from layers import SHAPES, formulations, forward, value_and_gradients
  from timing import interleaved

  table = {}
  for shape in SHAPES:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape.image), jnp.float32)
    ahead, both = {}, {}
    for name, module in formulations(shape).items():
      if name == SLOW and shape is not SHAPES[0]:
        continue
      params, apply = forward(module)
      y = jax.eval_shape(apply, params, x)[0]
      cotangent = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
      once, twice = jax.jit(apply), jax.jit(value_and_gradients(apply))
      ahead[name] = functools.partial(once, params, x)
      both[name] = functools.partial(twice, params, x, cotangent)
    for name, (once, twice) in torch_layers(shape).items():
      ahead[name], both[name] = once, twice
    table[shape.name] = {
      'batch': shape.batch,
      'groups': shape.groups,
      'forward': interleaved(ahead, budget_s=3.0),
      'value and gradients': interleaved(both),
    }
    row = table[shape.name]['value and gradients']
    print(shape.name, f'(batch {shape.batch})')
    for name, seconds in row.items():
      print(
        f'  {name:36s}{1e3 * table[shape.name]["forward"][name]:9.1f}{1e3 * seconds:9.1f} ms'
        f'{seconds / row[BLOCK]:8.2f} of the block',
        flush=True,
      )
  dense = [t['value and gradients'] for t in table.values() if t['groups'] == 1]
  ratios = [row['SCS, auto'] / row[BLOCK] for row in dense]
  mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
  print(f'SCS, auto / block, groups = 1: geometric mean {mean:.2f}, highest {max(ratios):.2f}')
  row = table['depthwise 14x14 64']['value and gradients']
  for name in ('SCS, convolution', 'SCS, kernel of ones (peers)'):
    print(f'depthwise: SCS, auto / {name}: {row["SCS, auto"] / row[name]:.3f}')
  return {'table': table, 'geometric mean': mean, 'highest': max(ratios)}


def torch_layers(shape) -> dict:
  """The same in PyTorch, if it is installed."""
  try:
    import torch
    from peers import Block, Similarity, forward_and_gradients
  except ImportError:
    return {}
  torch.set_num_threads(os.cpu_count())
  channels_second = (shape.batch, shape.features[0], *shape.spatial)
  make = lambda kind: kind(
    *shape.features, shape.window, shape.strides, shape.groups, rank=len(shape.spatial)
  )
  rows = {'torch: SCS (peers)': Similarity, f'torch: {BLOCK}': Block}
  return {name: forward_and_gradients(make(kind), channels_second) for name, kind in rows.items()}


def pool() -> dict:
  """Absolute max pooling beside Flax's max_pool, value with gradient."""
  import flax.linen as nn
  import jax
  import jax.numpy as jnp
  import numpy as np
  from timing import interleaved

  import scs_jax

  kinds = {'abs_max_pool': scs_jax.abs_max_pool, 'max_pool': nn.max_pool}
  table = {}
  for size, features in ((32, 32), (16, 64), (8, 128), (28, 16)):
    rng = np.random.default_rng(0)
    x, g = (
      jnp.asarray(rng.normal(size=(128, n, n, features)), jnp.float32) for n in (size, size // 2)
    )
    functions = {}
    for name, kind in kinds.items():
      f = jax.jit(lambda x, g, kind=kind: _pull(lambda x: kind(x, (2, 2), (2, 2)), x, g))
      functions[name] = lambda f=f, x=x, g=g: f(x, g)
    row = interleaved(functions)
    table[f'{size}x{size} {features}'] = row
    ours, theirs = (1e3 * row[name] for name in kinds)
    print(f'{size}x{size} {features}: {ours:.1f} ms, max_pool {theirs:.1f} ms, {ours / theirs:.2f}')
  return {'table': table}


def _pull(f, x, g):
  import jax

  y, pullback = jax.vjp(f, x)
  return y, pullback(g)


def steps() -> dict:
  """Whole training steps beside the convolutional twin, and PyTorch's if it is installed."""
  from scs_jax.train import sharding

  sharding.use_cpu_cores(128)
  from networks import BATCH, floor_step, networks, timed_step
  from timing import interleaved

  try:
    import peers
    import torch

    torch.set_num_threads(os.cpu_count())
  except ImportError:
    peers = None
  table = {}
  for name, (image, sizes) in networks().items():
    runs = {variant: timed_step(image, sizes, variant) for variant in ('scs', 'conv')}
    runs['convolutions alone'] = floor_step(image, sizes)
    if peers and 'stack' in sizes:
      runs['torch: SCS (peers)'] = peers.train_step(sizes['stack'], image, BATCH)
      runs['torch: conv'] = peers.train_step(sizes['stack'], image, BATCH, twin=True)
    table[name] = row = interleaved(runs, budget_s=25.0)
    print(f'{name}:')
    for kind, seconds in row.items():
      print(
        f'  {kind:24s}{1e3 * seconds:8.1f} ms, SCS / this {row["scs"] / seconds:.2f}', flush=True
      )
  return {'table': table, 'devices': 'one for each core', 'batch': BATCH}


def loop() -> dict:
  """The training loop on CIFAR-10, with data and a row of metrics every 50 steps, beside the step."""
  from scs_jax.train import sharding

  sharding.use_cpu_cores(128)
  from loop import compare

  times = compare()
  table = {name: statistics.median(seconds) for name, seconds in times.items()}
  ratio = statistics.median(map(operator.truediv, times['loop'], times['bare step']))
  both = ', '.join(f'{name} {1e3 * seconds:.1f} ms' for name, seconds in table.items())
  print(f'{both}, ratio {ratio:.3f}')
  return {'table': table, 'ratio': ratio}


def start() -> dict:
  """Seconds from the command to the first logged step of the quickstart, twice in one cache."""
  times = []
  with tempfile.TemporaryDirectory() as folder:
    for i in range(2):
      command = [
        sys.executable, '-m', 'scs_jax.main', f'--config={HERE.parent.parent}/configs/quickstart.py',
        f'--workdir={folder}/{i}', '--config.log_every_steps=1',
      ]  # fmt: skip
      environment = {
        **os.environ,
        'JAX_COMPILATION_CACHE_DIR': f'{folder}/cache',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
      }
      begun = time.perf_counter()
      process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, cwd=HERE.parent.parent
      )
      log = pathlib.Path(folder, str(i), 'metrics.jsonl')
      while not (log.exists() and log.read_text()):
        if process.poll() is not None:
          raise RuntimeError(f'{" ".join(command)} ended before its first step')
        time.sleep(0.02)
      times.append(time.perf_counter() - begun)
      process.kill()
      process.wait()
  print(f'to the first step: {times[0]:.1f} s, again {times[1]:.1f} s')
  return {'first': times[0], 'second': times[1]}


def pages() -> dict:
  """Milliseconds of a training step on one core, without and with huge pages, by turns."""
  configs = (
    'records.py:cifar10_84',
    'records.py:cifar10_24974',
    'records.py',
    'mnist.py:separable',
  )
  ways = {'ordinary pages': '', 'huge pages': 'glibc.malloc.hugetlb=1'}
  table = {}
  for config in configs:
    times = {way: [] for way in ways}
    for i in range(3):
      for way in list(ways)[:: 1 if i % 2 else -1]:
        printed = subprocess.run(
          [sys.executable, HERE / 'pages.py', f'configs/{config}'],
          env={**os.environ, 'GLIBC_TUNABLES': ways[way]},
          stdout=subprocess.PIPE,
          check=True,
        ).stdout
        times[way].append(float(printed))
    table[config] = row = {way: statistics.median(values) for way, values in times.items()}
    ordinary, huge = row.values()
    print(
      f'{config}: {ordinary:.1f} ms, huge pages {huge:.1f} ms, {ordinary / huge:.2f}', flush=True
    )
  return {'table': table}


def tpu() -> dict:
  """What the TPU compiler says of chains of four layers and of a ResNet-18 step."""
  from tpu import tables

  return tables(_read().get('tpu', {}), lambda result: _write('tpu', result))


TABLES = {table.__name__: table for table in (layers, pool, steps, loop, start, pages, tpu)}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--table', choices=TABLES)
  name = parser.parse_args().table
  if name is None:
    for each in TABLES:
      if subprocess.run([sys.executable, __file__, f'--table={each}']).returncode:
        print(f'{each}: not run, see above')
    return
  result = TABLES[name]()
  import jax  # after the table settled the devices

  result['machine'] = {
    'cores': os.cpu_count(),
    'processor': _processor(),
    'python': platform.python_version(),
    'jax': jax.__version__,
  }
  _write(name, result)
  if name == 'layers':
    draw(result['table'])


def _read() -> dict:
  return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _write(name: str, result: dict) -> None:
  RESULTS.write_text(json.dumps({**_read(), name: result}, indent=1) + '\n')


def draw(table: dict) -> None:
  """Writes layers.png: every row of the layers as a multiple of the block it would replace."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  shown = {'SCS, auto': '#2166ac', 'SCS, kernel of ones (peers)': '#b2182b'}
  figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
  for i, (name, color) in enumerate(shown.items()):
    rows = [shape['value and gradients'] for shape in table.values()]
    positions = [y + 0.38 * i for y in range(len(rows))]
    axes.barh(positions, [r[name] / r[BLOCK] for r in rows], 0.38, color=color, label=name)
  axes.axvline(1, color='black', linewidth=1)
  axes.set_yticks([y + 0.19 for y in range(len(table))], list(table))
  axes.invert_yaxis()
  axes.set_xlabel(f'time of value and all gradients, as a multiple of {BLOCK}')
  axes.legend(frameon=False)
  figure.savefig(HERE / 'layers.png', dpi=120)


def _processor() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor()


if __name__ == '__main__':
  os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # or PyTorch's threads spin while JAX runs
  sys.path.insert(0, str(HERE.parent.parent))
  main()
