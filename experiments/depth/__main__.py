"""Measures activations and gradients of fifty SCS layers at initialisation.

python -m experiments.depth

It measures the cases that results.jsonl lacks, and rewrites depth.png and the first table of
README.md. While the layers learn: `python -m experiments.depth.training`.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.depth.layers import (
  CASES,
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
BATCH, SEEDS = 32, 3
TABLE = (
  'plain, p = 2, q = 0.1',
  'plain, p = 2, q = 0.001',
  'plain, p = 1.5, q = 0.001',
  'plain, p = 1.25, q = 0.001',
  'plain, unit output, p = 2, q = 0.1',
  'plain, unit output, p = 1.25, q = 0.1',
  'shortcuts, p = 2, q = 0.001',
  'shortcuts, p = 3, q = 0.1',
  'shortcuts, unit output, p = 1.25, q = 0.001',
  'shortcuts, unit output, p = 2, q = 0.001',
)


def main() -> None:
  path = HERE / 'results.jsonl'
  for name in CASES:
    add_missing(path, {'case': name}, functools.partial(outcome, name))
  results = {line['case']: line for line in read(path)}
  write_between(HERE / 'README.md', 'initialisation', table(results))
  draw(results, HERE / 'depth.png')


def outcome(name: str) -> dict[str, list[float]]:
  """Returns the medians over the seeds of a case: 'activations' and 'gradients' by layer."""
  runs = [measure(jax.random.key(seed), _images(), CASES[name]) for seed in range(SEEDS)]
  sizes, gradients = (np.median(np.stack(a), 0) for a in zip(*runs, strict=True))
  return {'activations': sizes.tolist(), 'gradients': gradients.tolist()}


@functools.cache
def _images() -> jax.Array:
  return jnp.asarray(data.load('cifar10', 'test').images[:BATCH] / 255, jnp.float32)


@jax.jit
def measure(key: jax.Array, images: jax.Array, case: Case) -> tuple[jax.Array, jax.Array]:
  """Returns the root mean squares of activations and of gradients at the output of every layer.

  The gradients come back from random numbers at the end.
  """
  p, *rest = case
  keys = jax.random.split(key)
  weights = draw_weights(keys[0], images.shape[-1], p)
  function = lambda e: signal(weights, e, images, *rest)
  y, pull, sizes = jax.vjp(function, no_perturbations(images), has_aux=True)
  (gradients,) = pull(jax.random.normal(keys[1], y.shape))
  return sizes, by_layer(gradients)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the cases of `TABLE` in Markdown."""
  rows = ['| fifty layers | span of activations | span of gradients |', '|---|---|---|']
  for name in TABLE:
    spans = (span(results[name][key]) for key in ('activations', 'gradients'))
    rows.append(f'| {name} | {" | ".join(f"{value:,.3g}" for value in spans)} |')
  return '\n'.join(rows)


if __name__ == '__main__':
  main()
