"""The training loop with its data and its log beside the bare step that it repeats."""

import json
import pathlib
import runpy
import tempfile
import time

import jax
from networks import BATCH, ROOT, step_of

from scs_jax import train

STEPS = 200
ROUNDS = 6


def looped(config) -> float:
  """Returns the seconds a step takes in the loop, from the second step on."""
  with tempfile.TemporaryDirectory() as folder:
    train.train_and_evaluate(config, folder)
    rows = map(json.loads, pathlib.Path(folder, 'metrics.jsonl').read_text().splitlines())
    (speed,) = (row['train/images_per_second'] for row in rows if 'val/accuracy' in row)
  return BATCH / speed


def compare() -> dict[str, list[float]]:
  """Returns the seconds of a step in the loop and of the bare step, by turns."""
  config = runpy.run_path(str(ROOT / 'configs' / 'cifar10.py'))['get_config']()
  with config.ignore_type():
    config.total_epochs = STEPS * BATCH / 50_000
  config.data.eval_split = 'test[:500]'
  config.log_every_steps = 50
  bare = step_of(config, (32, 32, 3))
  jax.block_until_ready(bare())  # compiles
  times = {'loop': [], 'bare step': []}
  for i in range(ROUNDS):
    for name in sorted(times, reverse=bool(i % 2)):
      if name == 'loop':
        times[name].append(looped(config))
        continue
      begun = time.perf_counter()
      for _ in range(STEPS):
        loss = bare()
      jax.block_until_ready(loss)
      times[name].append((time.perf_counter() - begun) / STEPS)
    print({name: [round(1e3 * s, 1) for s in values] for name, values in times.items()}, flush=True)
  return times
