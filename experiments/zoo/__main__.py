"""Counts and times every network of configs/cifar10.py and its convolutional twin.

python -m experiments.zoo --workdir=DIR
python -m experiments.zoo --workdir=DIR --network=resnet20    one of them, again

Adds a line for each network and variant: parameters, flops of the forward pass of one image, and
images per second of a training step. `python -m experiments.zoo.table` writes the tables.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags as absl_flags

from experiments import flags
from experiments.results import Trial, append, parameters, results_file
from experiments.speed.networks import on_random_images, settings, timed_step
from experiments.zoo.table import NETWORKS
from scs_jax.train import sharding

NETWORK = absl_flags.DEFINE_multi_enum('network', NETWORKS, NETWORKS, 'Which; may be repeated.')
WORKDIR = flags.workdir()
RESULTS = flags.results()
IMAGE = (32, 32, 3)
BATCH = 64
STEPS = 5


def measure(name: str, variant: str) -> dict[str, Any]:
  """Returns parameters, flops and images per second of one network."""
  config = Trial(f'configs/cifar10.py:{name},variant={variant}', 0).load()
  timed = settings(config.model.to_dict(), batch_size=BATCH, objective=config.objective)
  experiment = on_random_images(timed, IMAGE)
  forward = jax.jit(lambda weights, images: experiment.structure.merge(*weights)(images))
  one = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
  cost: Any = forward.lower(experiment.weight_shapes, one).compile().cost_analysis()
  return {
    'parameters': parameters(experiment),
    'flops': cost['flops'],
    'images_per_second': BATCH / statistics.median(_seconds(timed_step(experiment))),
  }


def _seconds(step: Callable[[], jax.Array]) -> list[float]:
  """Returns the durations of `STEPS` steps, after one that compiles."""
  step().block_until_ready()
  seconds = []
  for _ in range(STEPS):
    begun = time.perf_counter()
    step().block_until_ready()
    seconds.append(time.perf_counter() - begun)
  return seconds


def main(_: list[str]) -> None:
  """Adds a line for each network and variant, even if there is one: the newest counts."""
  results = results_file(RESULTS.value, WORKDIR.value)
  sharding.use_cpu_cores(BATCH)
  for name in NETWORK.value:
    for variant in ('scs', 'conv'):
      values = measure(name, variant)
      append(results, {'network': name, 'variant': variant, 'batch': BATCH}, values)
      print(name, variant, values, flush=True)


if __name__ == '__main__':
  flags.run(main)
