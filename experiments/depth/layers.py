"""How the size of activations and gradients moves through 50 SCS layers, at first and in training.

python experiments/depth/run.py        writes results.json, depth.png and README.md's first table
python experiments/depth/training.py   the same layers while they learn
"""

import json
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from results import write_between  # noqa: E402

import scs_jax  # noqa: E402
from scs_jax.data import examples as sources  # noqa: E402

DEPTH, WIDTH, BATCH = 50, 16, 32
SEEDS = 3
# p, q, whether q is relative to the norm of the patches, output of unit size, shortcuts.
CASES = {
  f'{form}, p = {p:g}, q = {"relative " if relative else ""}{q:g}': (p, q, relative, unit, residual)
  for form, unit, residual in (
    ('plain', False, False),
    ('plain, unit output', True, False),
    ('shortcuts', False, True),
    ('shortcuts, unit output', True, True),
  )
  for p in (1.0, 1.25, 1.5, 2.0, 3.0)
  for q, relative in ((0.0, False), (1e-3, False), (0.1, False), (0.1, True))
}

SHOWN = {  # color and line of the pictures
  'plain, p = 2, q = 0.1': ('#b2182b', '-'),
  'plain, p = 2, q = 0.001': ('#b2182b', ':'),  # in front of the one of unit output
  'plain, unit output, p = 2, q = 0.001': ('#67a9cf', '-'),
  'plain, unit output, p = 1.25, q = 0.001': ('#2166ac', '-'),
  'shortcuts, p = 2, q = 0.001': ('#ef8a62', '--'),
  'shortcuts, unit output, p = 1.25, q = 0.001': ('#2166ac', '--'),
  'shortcuts, unit output, p = 2, q = 0.001': ('#67a9cf', '--'),
}
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


def draw_weights(key, channels, p):
  """Returns what the layers learn: the first layer's kernel, all others', and an exponent each."""
  keys = jax.random.split(key)
  return {
    'kernels': jax.random.normal(keys[0], (DEPTH // 2, 2, 3, 3, WIDTH, WIDTH)),
    'first': jax.random.normal(keys[1], (3, 3, channels, WIDTH)),
    'log_p': jnp.full((DEPTH // 2, 2), jnp.log(p)),
  }


def signal(weights, perturbations, images, q, relative, unit, residual):
  """Returns the last activations and, for every layer, the root mean square of its output.

  The layers come in pairs with a shortcut around both, or without. The layer before them, which
  sees the image, has the exponent of the first.
  """

  def layer(x, kernel, log_p, q):
    n = math.prod(kernel.shape[:3])
    p = jnp.exp(log_p)
    y = scs_jax.sharpened_cosine_similarity(x, kernel, p, q)
    return jnp.where(unit, n ** (p / 2), 1.0) * y

  def inner(x, kernel, log_p, perturbation):
    # A patch has about n values as large as the typical one.
    size = jnp.sqrt(math.prod(kernel.shape[:3]) * jnp.square(x).mean())
    here = q * jnp.where(relative, lax.stop_gradient(size), 1.0)
    return layer(x, kernel, log_p, here) + perturbation

  def pair(x, inputs):
    kernels, log_p, perturbation = inputs
    y = inner(x, kernels[0], log_p[0], perturbation[0])
    z = inner(y, kernels[1], log_p[1], perturbation[1]) + residual * x
    return z, jnp.stack([_rms(y), _rms(z)])

  x = layer(images, weights['first'], weights['log_p'][0, 0], q)
  layers = weights['kernels'], weights['log_p'], perturbations
  # Unrolled: on CPUs convolutions are several times slower inside a loop.
  x, sizes = lax.scan(pair, x, layers, unroll=True)
  return x, sizes.reshape(-1)


def no_perturbations(images):
  """Returns zeros that are added to the output of every layer, to ask for its gradient."""
  return jnp.zeros((DEPTH // 2, 2, *images.shape[:-1], WIDTH))


def by_layer(gradients):
  """Returns the root mean square of the gradient at the output of every layer."""
  return jnp.sqrt(jnp.square(gradients).mean(range(2, gradients.ndim))).reshape(-1)


def _rms(x):
  return jnp.sqrt(jnp.square(x).mean())


@jax.jit
def measure(key, images, case):
  """Returns the root mean squares of activations and of gradients at the output of every layer."""
  p, *case = case
  keys = jax.random.split(key)
  weights = draw_weights(keys[0], images.shape[-1], p)
  function = lambda e: signal(weights, e, images, *case)
  y, pull, sizes = jax.vjp(function, no_perturbations(images), has_aux=True)
  (gradients,) = pull(jax.random.normal(keys[1], y.shape))
  return sizes, by_layer(gradients)


def main():
  examples = sources.load('cifar10', 'test')
  images = jnp.asarray(examples.images[:BATCH] / 255, jnp.float32)
  results = {}
  for name, case in CASES.items():
    runs = [measure(jax.random.key(seed), images, case) for seed in range(SEEDS)]
    sizes, gradients = (np.median(np.stack(a), 0) for a in zip(*runs, strict=True))
    results[name] = {'activations': sizes.tolist(), 'gradients': gradients.tolist()}
    spans = [span(a) for a in (sizes, gradients)]
    print(f'{name:50s} activations ×{spans[0]:<10.3g} gradients ×{spans[1]:<10.3g}', flush=True)
  (HERE / 'results.json').write_text(json.dumps(results) + '\n')
  write_between(HERE / 'README.md', 'initialisation', table(results))
  draw(results, HERE / 'depth.png')


def table(results):
  """Returns the cases of `TABLE` in Markdown."""
  rows = ['| fifty layers | span of activations | span of gradients |', '|---|---|---|']
  for name in TABLE:
    spans = (span(np.asarray(results[name][key])) for key in ('activations', 'gradients'))
    rows.append(f'| {name} | {" | ".join(f"{value:,.3g}" for value in spans)} |')
  return '\n'.join(rows)


def span(a):
  """How many times the largest is the smallest."""
  return float(a.max() / a.min()) if a.min() > 0 else math.inf


def draw(results, path):
  """Draws activations and gradients against the layer."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout='constrained')
  for axes, quantity in zip(panels, ('activations', 'gradients'), strict=True):
    for name, (color, style) in SHOWN.items():
      values = np.maximum(results[name][quantity], 1e-30)
      axes.semilogy(range(1, DEPTH + 1), values / values[0 if quantity == 'activations' else -1],
                    color=color, linestyle=style, label=name,
                    zorder=3 if style == ':' else 2)  # fmt: skip
    axes.set_ylim(1e-5, 1e5)
    axes.set_xlabel('layer')
  panels[0].set_title('activations, relative to the first layer')
  panels[1].set_title('gradients, relative to the last layer')
  panels[1].legend(frameon=False, fontsize=8)
  figure.savefig(path, dpi=120)


if __name__ == '__main__':
  main()
