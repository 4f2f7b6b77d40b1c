"""Times `scs_jax.explain` beside gradients of the same network."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import scs_jax
from experiments.results import Trial
from scs_jax import data
from scs_jax.train import Experiment

DIGITS, ROUNDS = 64, 200


def measure() -> dict:
  """Returns median milliseconds for 64 digits: the network, gradients and explanations.

  All take turns in every round, so that a busy machine slows all of them.
  """
  experiment = Experiment(Trial('configs/quickstart.py', 0).load())
  model = experiment.model()
  graph, state = nnx.split(model)
  images = jnp.asarray(data.load('mnist5k', 'test').images[:DIGITS] / np.float32(255))

  def largest(state, images):
    return nnx.merge(graph, state)(images).max(1).sum()

  of_images, of_weights = (jax.jit(jax.grad(largest, argnums)) for argnums in (1, 0))
  tasks = {
    'logits': jax.jit(lambda state, images: nnx.merge(graph, state)(images)),
    'gradient of the images': of_images,
    'gradient of the weights': of_weights,
    'two gradients of the images': lambda *a: (of_images(*a), of_images(*a)),
    'explain under jit': jax.jit(lambda state, x: scs_jax.explain(nnx.merge(graph, state), x)),
    'explain': lambda state, images: scs_jax.explain(model, images),
  }
  times: dict[str, list[float]] = {name: [] for name in tasks}
  for _ in range(ROUNDS + 3):
    for name, task in tasks.items():
      begun = time.perf_counter()
      jax.block_until_ready(task(state, images))
      times[name].append(1000 * (time.perf_counter() - begun))
  return {
    'digits': DIGITS,
    'milliseconds': {name: round(statistics.median(ms[3:]), 3) for name, ms in times.items()},
    'fastest': {name: round(min(ms[3:]), 3) for name, ms in times.items()},
  }
