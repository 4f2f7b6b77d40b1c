"""How the size of activations and gradients moves through 50 SCS layers while they learn.

python experiments/depth/training.py   writes training.json, training.png and README.md's second table

The layers of run.py with a linear head, kernels and one exponent a layer learned by Adam on real
images, halved to 16 x 16 to afford the steps; the gradients are those of the loss.
"""

import json
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import run  # noqa: E402

import scs_jax  # noqa: E402
from scs_jax.data import load  # noqa: E402

STEPS, MEASURED_AT = 300, (0, 100, 300)
BATCH, LEARNING_RATE = 32, 2e-3
CLASSES, POOLED = 10, 4


def logits_of(weights, perturbations, images, case):
  """Returns logits and the layers' sizes; the head sees the last map pooled to 4 x 4."""
  maps, sizes = run.signal(weights, perturbations, images, *case)
  small = scs_jax.abs_max_pool(maps, (POOLED, POOLED), strides=(POOLED, POOLED))
  return small.reshape(len(images), -1) @ weights['head'], sizes


def loss_of(weights, perturbations, images, labels, case):
  logits, sizes = logits_of(weights, perturbations, images, case)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), sizes


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(LEARNING_RATE))


@jax.jit
def step(weights, state, images, labels, case):
  """Returns new weights, the optimizer's new state and the loss."""
  zeros = run.no_perturbations(images)
  (loss, _), gradients = jax.value_and_grad(loss_of, has_aux=True)(
    weights, zeros, images, labels, case
  )
  updates, state = optimizer.update(gradients, state)
  return optax.apply_updates(weights, updates), state, loss


@jax.jit
def measure(weights, images, labels, case):
  """Returns the root mean squares of activations and of the loss's gradients, by layer."""
  zeros = run.no_perturbations(images)
  gradients, sizes = jax.grad(loss_of, 1, has_aux=True)(weights, zeros, images, labels, case)
  return sizes, run.by_layer(gradients)


def train(case, images, labels, seed=0):
  """Returns losses, exponents at the end and what `measure` saw, as lists."""
  p, *case = case
  keys = jax.random.split(jax.random.key(seed))
  weights = run.draw_weights(keys[0], images.shape[-1], p)
  features = (images.shape[1] // POOLED) ** 2 * run.WIDTH
  weights['head'] = 0.1 * jax.random.normal(keys[1], (features, CLASSES)) / math.sqrt(features)
  state = optimizer.init(weights)
  order = np.random.default_rng(seed).permutation(len(labels))
  rows = lambda i: order[i * BATCH : (i + 1) * BATCH]
  batch = lambda i: (images[rows(i)], labels[rows(i)])
  losses, measured = [], {}
  for i in range(STEPS + 1):
    if i in MEASURED_AT:
      # The same images each time, which no step sees.
      sizes, gradients = measure(weights, *batch(STEPS), case)
      measured[i] = {'activations': sizes.tolist(), 'gradients': gradients.tolist()}
    if i < STEPS:
      weights, state, loss = step(weights, state, *batch(i), case)
      losses.append(float(loss))
  p = np.exp(weights['log_p'])
  return {'losses': losses, 'p': [float(p.min()), float(p.max())], 'measured': measured}


def halved(images):
  """Returns the means of 2 x 2 pixels, from 0 to 1, float32."""
  n, height, width, channels = images.shape
  blocks = images.reshape(n, height // 2, 2, width // 2, 2, channels)
  return jnp.asarray(blocks.mean((2, 4), np.float32) / 255)


def table(results):
  """Returns all cases in Markdown; a span is written for each step it was measured at."""
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
      spans = (run.span(np.asarray(m[quantity])) for m in result['measured'].values())
      cells.append(', '.join(f'{value:.3g}' for value in spans))
    rows.append(f'| {" | ".join(cells)} |')
  return '\n'.join(rows)


def main():
  examples = load('cifar10', f'train[:{(STEPS + 1) * BATCH}]')
  images, labels = halved(examples.images), jnp.asarray(examples.labels, jnp.int32)
  results = {}
  for name in run.SHOWN:
    results[name] = train(run.CASES[name], images, labels)
    print(name, 'done', flush=True)
  (HERE / 'training.json').write_text(json.dumps(results) + '\n')
  run.write_between(HERE / 'README.md', 'training', table(results))
  last = {name: result['measured'][STEPS] for name, result in results.items()}
  run.draw(last, HERE / 'training.png')


if __name__ == '__main__':
  main()
