"""The training loop with its data and its log, beside the bare step that it repeats."""

import json
import pathlib
import tempfile
import time

import jax

from experiments.results import Trial
from experiments.speed.networks import BATCH, timed_step
from scs_jax import train
from scs_jax.train import Experiment

STEPS = 200
ROUNDS = 6
CHANGES = {
  'total_epochs': STEPS * BATCH / 50_000,
  'data.eval_split': 'test[:500]',
  'log_every_steps': 50,
}


def seconds_in_the_loop(experiment: Experiment) -> float:
  """Returns the seconds that a step takes in the training loop, from the second step on."""
  with tempfile.TemporaryDirectory() as folder:
    train.run(experiment, folder)
    rows = map(json.loads, pathlib.Path(folder, 'metrics.jsonl').read_text().splitlines())
    (speed,) = (row['train/images_per_second'] for row in rows if 'val/accuracy' in row)
  return experiment.config.batch_size / speed


def compare() -> dict[str, list[float]]:
  """Returns the seconds of a step in the loop and of the bare step, measured alternately."""
  experiment = Experiment(Trial('configs/cifar10.py', seed=0, changes=CHANGES).load())
  bare = timed_step(experiment)
  jax.block_until_ready(bare())  # compiles
  times = {'loop': [], 'bare step': []}
  for i in range(ROUNDS):
    for name in sorted(times, reverse=bool(i % 2)):
      if name == 'loop':
        times[name].append(seconds_in_the_loop(experiment))
        continue
      begun = time.perf_counter()
      losses = [bare() for _ in range(STEPS)]
      jax.block_until_ready(losses[-1])
      times[name].append((time.perf_counter() - begun) / STEPS)
    print({name: [round(1e3 * s, 1) for s in values] for name, values in times.items()}, flush=True)
  return times
