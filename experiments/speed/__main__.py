"""Measures what an SCS layer costs beside the block that it replaces.

python -m experiments.speed                     measures every table, each in its own process
python -m experiments.speed --table=layers      one of layers, pool, steps, loop, start, pages, tpu

Adds lines to results.jsonl and writes the table of the README from them. The newest line counts.
"""

import functools
import importlib.util
import operator
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import scs_jax
from experiments.flags import run
from experiments.results import ROOT, append
from experiments.speed import report, tpu
from experiments.speed.layers import (
  BLOCK,
  BY_PATCHES,
  SHAPES,
  TORCH_BLOCK,
  TORCH_SCS,
  Shape,
  formulations,
  forward,
  value_and_gradients,
)
from experiments.speed.loop import compare
from experiments.speed.networks import (
  BATCH,
  WithoutBlocks,
  networks,
  on_random_images,
  settings,
  timed_step,
)
from experiments.speed.timing import interleaved
from scs_jax.train import sharding

PAGES = (
  'configs/records.py:cifar10_84',
  'configs/records.py:cifar10_24974',
  'configs/records.py',
  'configs/mnist.py:separable',
)
HUGE_PAGES = {'ordinary pages': '', 'huge pages': 'glibc.malloc.hugetlb=1'}


def layers() -> None:
  """Measures each layer, forward and value with all gradients, on one CPU device."""
  for shape in SHAPES:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape.image), jnp.float32)
    ahead, both = {}, {}
    for name, module in formulations(shape).items():
      if name == BY_PATCHES and shape is not SHAPES[0]:
        continue  # takes seconds
      params, apply = forward(module)
      y = jax.eval_shape(apply, params, x)[0]
      cotangent = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
      once, twice = jax.jit(apply), jax.jit(value_and_gradients(apply))
      ahead[name] = functools.partial(once, params, x)
      both[name] = functools.partial(twice, params, x, cotangent)
    for name, (once, twice) in torch_layers(shape).items():
      ahead[name], both[name] = once, twice
    seconds = {
      'forward': interleaved(ahead, budget_s=3.0),
      'value and gradients': interleaved(both),
    }
    key = {'table': 'layers', 'layer': shape.name}
    append(report.RESULTS, key, {'batch': shape.batch, 'groups': shape.groups, **seconds})
    print(shape.name, f'(batch {shape.batch})')
    for name, total in seconds['value and gradients'].items():
      print(
        f'  {name:36s}{1e3 * seconds["forward"][name]:9.1f}{1e3 * total:9.1f} ms'
        f'{total / seconds["value and gradients"][BLOCK]:8.2f} of the block',
        flush=True,
      )


def torch_layers(shape: Shape) -> dict[str, tuple[Callable, Callable]]:
  """Returns the same layer in PyTorch; nothing if PyTorch is not installed."""
  peers = pytorch()
  if peers is None:
    return {}
  channels_second = (shape.batch, shape.features[0], *shape.spatial)
  make = lambda kind: kind(
    *shape.features, shape.window, shape.strides, shape.groups, rank=len(shape.spatial)
  )
  rows = {TORCH_SCS: peers.Similarity, TORCH_BLOCK: peers.Block}
  return {
    name: peers.forward_and_gradients(make(kind), channels_second) for name, kind in rows.items()
  }


def pytorch() -> types.ModuleType | None:
  """Returns the formulations in PyTorch, which then uses all cores; None if it is not installed."""
  if not importlib.util.find_spec('torch'):
    return None
  from experiments.speed import peers  # late, because it imports torch

  peers.use_all_cores()
  return peers


def pool() -> None:
  """Measures absolute max pooling beside Flax's max_pool, value with gradient."""
  kinds = {'abs_max_pool': scs_jax.abs_max_pool, 'max_pool': flax.linen.max_pool}
  for size, features in ((32, 32), (16, 64), (8, 128), (28, 16)):
    rng = np.random.default_rng(0)
    x, g = (
      jnp.asarray(rng.normal(size=(128, n, n, features)), jnp.float32) for n in (size, size // 2)
    )
    functions = {}
    for name, kind in kinds.items():
      f = jax.jit(lambda x, g, kind=kind: _pull(lambda x: kind(x, (2, 2), (2, 2)), x, g))
      functions[name] = lambda f=f, x=x, g=g: f(x, g)
    seconds = interleaved(functions)
    append(
      report.RESULTS, {'table': 'pool', 'layer': f'{size}x{size} {features}'}, {'seconds': seconds}
    )


def _pull(f: Callable, x: jax.Array, g: jax.Array) -> tuple[jax.Array, tuple[jax.Array]]:
  y, pullback = jax.vjp(f, x)
  return y, pullback(g)


def steps() -> None:
  """Measures training steps beside those of the convolutional twin, and of PyTorch."""
  sharding.use_cpu_cores(BATCH)
  peers = pytorch()
  for name, (image, model) in networks().items():
    scs, twin = (settings({**model, 'variant': variant}) for variant in ('scs', 'conv'))
    runs: dict[str, Callable[[], object]] = {
      'scs': timed_step(on_random_images(scs, image)),
      'conv': timed_step(on_random_images(twin, image)),
      'convolutions alone': timed_step(on_random_images(twin, image, WithoutBlocks)),
    }
    if peers and 'stack' in model:
      runs[TORCH_SCS] = peers.train_step(model['stack'], image, BATCH)
      runs['torch: conv'] = peers.train_step(model['stack'], image, BATCH, twin=True)
    seconds = interleaved(runs, budget_s=25.0)
    append(
      report.RESULTS, {'table': 'steps', 'network': name}, {'batch': BATCH, 'seconds': seconds}
    )


def loop() -> None:
  """Measures the training loop on CIFAR-10, with its data and its log, beside the bare step."""
  sharding.use_cpu_cores(BATCH)
  times = compare()
  seconds = {name: statistics.median(values) for name, values in times.items()}
  ratio = statistics.median(map(operator.truediv, times['loop'], times['bare step']))
  append(report.RESULTS, {'table': 'loop'}, {'seconds': seconds, 'ratio': ratio})


def start() -> None:
  """Measures the time from the command to the first step of the quickstart, twice in one cache."""
  times = []
  with tempfile.TemporaryDirectory() as folder:
    for i in range(2):
      command = [sys.executable, '-m', 'scs_jax.main', '--config=configs/quickstart.py']
      command += [f'--workdir={folder}/{i}', '--config.log_every_steps=1']
      environment = {
        **os.environ,
        'JAX_COMPILATION_CACHE_DIR': f'{folder}/cache',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
      }
      begun = time.perf_counter()
      process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
      log = pathlib.Path(folder, str(i), 'metrics.jsonl')
      while not (log.exists() and log.read_text()):
        if process.poll() is not None:
          raise RuntimeError(f'{" ".join(command)} ended before its first step')
        time.sleep(0.02)
      times.append(time.perf_counter() - begun)
      process.kill()
      process.wait()
  seconds = dict(zip(('first', 'second'), times, strict=True))
  append(report.RESULTS, {'table': 'start'}, {'seconds': seconds})


def pages() -> None:
  """Measures a training step on one core, alternately without and with huge pages."""
  for config in PAGES:
    times = {way: [] for way in HUGE_PAGES}
    for i in range(3):
      for way in list(HUGE_PAGES)[:: 1 if i % 2 else -1]:
        printed = subprocess.run(
          [sys.executable, '-m', 'experiments.speed.pages', config],
          env={**os.environ, 'GLIBC_TUNABLES': HUGE_PAGES[way]},
          stdout=subprocess.PIPE,
          cwd=ROOT,
          check=True,
        ).stdout
        times[way].append(float(printed))
    milliseconds = {way: statistics.median(values) for way, values in times.items()}
    append(report.RESULTS, {'table': 'pages', 'config': config}, {'milliseconds': milliseconds})


TABLES = {
  'layers': layers,
  'pool': pool,
  'steps': steps,
  'loop': loop,
  'start': start,
  'pages': pages,
  'tpu': tpu.compile_missing,
}
TABLE = flags.DEFINE_enum('table', None, list(TABLES), 'The table to measure; all if not given.')


def main(_) -> None:
  os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # or PyTorch's threads spin while JAX runs
  if TABLE.value is None:
    command = [sys.executable, '-m', 'experiments.speed']
    failed = [t for t in TABLES if subprocess.run([*command, f'--table={t}'], cwd=ROOT).returncode]
    if failed:
      sys.exit(f'Not measured, see above: {", ".join(failed)}')
    return
  TABLES[TABLE.value]()
  print(report.write(TABLE.value))


if __name__ == '__main__':
  run(main)
