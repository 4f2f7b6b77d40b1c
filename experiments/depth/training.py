"""Measures activations and gradients of fifty SCS layers while they learn.

python -m experiments.depth.training

It trains the cases that training.jsonl lacks, and rewrites training.png and the second table of
README.md. The layers get a linear head. Adam learns the kernels and one exponent for each layer, on
real images that are halved to 16 × 16 to save time. The gradients are those of the loss.
"""

import functools
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import scs_jax
from experiments.depth.layers import (
  CASES,
  SHOWN,
  WIDTH,
  Case,
  by_layer,
  draw,
  draw_weights,
  no_perturbations,
  signal,
  span,
)
from experiments.results import add_missing, read, write_between
from scs_jax import data

HERE = pathlib.Path(__file__).parent
STEPS, MEASURED_AT = 300, (0, 100, 300)
BATCH, LEARNING_RATE = 32, 2e-3
CLASSES, POOLED = 10, 4

Weights = dict[str, jax.Array]
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(LEARNING_RATE))


def main() -> None:
  path = HERE / 'training.jsonl'
  for name in SHOWN:
    add_missing(path, {'case': name, 'seed': 0}, functools.partial(outcome, name))
  results = {line['case']: line for line in read(path)}
  write_between(HERE / 'README.md', 'training', table(results))
  last = {name: line['measured'][str(STEPS)] for name, line in results.items()}
  draw(last, HERE / 'training.png')


def outcome(name: str, seed: int = 0) -> dict[str, Any]:
  """Trains a case.

  Returns:
    'losses' of all steps; 'p', the smallest and the largest at the end; and 'measured': by step,
    the 'activations' and 'gradients' of every layer.
  """
  images, labels = _examples()
  p, *rest = CASES[name]
  case = tuple(rest)
  keys = jax.random.split(jax.random.key(seed))
  weights = draw_weights(keys[0], images.shape[-1], p)
  features = (images.shape[1] // POOLED) ** 2 * WIDTH
  weights['head'] = 0.1 * jax.random.normal(keys[1], (features, CLASSES)) / math.sqrt(features)
  state = optimizer.init(weights)
  order = np.random.default_rng(seed).permutation(len(labels))
  rows = lambda i: order[i * BATCH : (i + 1) * BATCH]
  batch = lambda i: (images[rows(i)], labels[rows(i)])
  losses, measured = [], {}
  for i in range(STEPS + 1):
    if i in MEASURED_AT:
      # Always on the same images, which no step is trained on.
      sizes, gradients = measure(weights, *batch(STEPS), case)
      measured[i] = {'activations': sizes.tolist(), 'gradients': gradients.tolist()}
    if i < STEPS:
      weights, state, loss = step(weights, state, *batch(i), case)
      losses.append(float(loss))
  p = np.exp(weights['log_p'])
  return {'losses': losses, 'p': [float(p.min()), float(p.max())], 'measured': measured}


@functools.cache
def _examples() -> tuple[jax.Array, jax.Array]:
  examples = data.load('cifar10', f'train[:{(STEPS + 1) * BATCH}]')
  return halved(examples.images), jnp.asarray(examples.labels, jnp.int32)


def halved(images: np.ndarray) -> jax.Array:
  """Returns the means of 2 × 2 pixels, from 0 to 1, float32."""
  n, height, width, channels = images.shape
  blocks = images.reshape(n, height // 2, 2, width // 2, 2, channels)
  return jnp.asarray(blocks.mean((2, 4), np.float32) / 255)


@jax.jit
def step(
  weights: Weights, state: Any, images: jax.Array, labels: jax.Array, case: Case
) -> tuple[Any, Any, jax.Array]:
  """Returns new weights, the optimizer's new state and the loss."""
  zeros = no_perturbations(images)
  (loss, _), gradients = jax.value_and_grad(loss_of, has_aux=True)(
    weights, zeros, images, labels, case
  )
  updates, state = optimizer.update(gradients, state)
  return optax.apply_updates(weights, updates), state, loss


@jax.jit
def measure(
  weights: Weights, images: jax.Array, labels: jax.Array, case: Case
) -> tuple[jax.Array, jax.Array]:
  """Returns the root mean squares of activations and of the loss's gradients, by layer."""
  zeros = no_perturbations(images)
  gradients, sizes = jax.grad(loss_of, 1, has_aux=True)(weights, zeros, images, labels, case)
  return sizes, by_layer(gradients)


def loss_of(
  weights: Weights, perturbations: jax.Array, images: jax.Array, labels: jax.Array, case: Case
) -> tuple[jax.Array, jax.Array]:
  """Returns the mean cross-entropy and the layers' sizes."""
  logits, sizes = logits_of(weights, perturbations, images, case)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), sizes


def logits_of(
  weights: Weights, perturbations: jax.Array, images: jax.Array, case: Case
) -> tuple[jax.Array, jax.Array]:
  """Returns logits and the layers' sizes; the head sees the last map pooled to 4 × 4."""
  maps, sizes = signal(weights, perturbations, images, *case)
  small = scs_jax.abs_max_pool(maps, (POOLED, POOLED), strides=(POOLED, POOLED))
  return small.reshape(len(images), -1) @ weights['head'], sizes


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns all cases in Markdown, with a span for each measured step."""
  at = ', '.join(map(str, MEASURED_AT))
  rows = [
    '| fifty layers | loss, first 50 steps | last 50 | p at the end '
    f'| span of activations at step {at} | span of gradients at step {at} |',
    '|---|---|---|---|---|---|',
  ]
  for name, result in results.items():
    losses, p = result['losses'], result['p']
    cells = [name, *(f'{np.mean(part):.2f}' for part in (losses[:50], losses[-50:]))]
    cells.append(f'{p[0]:.2f} to {p[1]:.2f}')
    for quantity in ('activations', 'gradients'):
      spans = (span(m[quantity]) for m in result['measured'].values())
      cells.append(', '.join(f'{value:.3g}' for value in spans))
    rows.append(f'| {" | ".join(cells)} |')
  return '\n'.join(rows)


if __name__ == '__main__':
  main()
