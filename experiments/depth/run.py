"""How the size of activations and gradients moves through 50 SCS layers at initialisation.

python experiments/depth/run.py        prints a table, writes results.json and depth.png
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
sys.path.insert(0, str(HERE.parent.parent))

import scs_jax  # noqa: E402
from scs_jax.data import sources  # noqa: E402

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


def signal(kernels, first, perturbations, images, p, q, relative, unit, residual):
  """Returns the last activations and, for every layer, the root mean square of its output.

  The layers come in pairs with a shortcut around both, or without.
  """
  n = math.prod(kernels.shape[2:5])

  def layer(x, kernel, perturbation):
    # A patch has about n values as large as the typical one.
    size = jnp.sqrt(n * jnp.square(x).mean())
    here = q * jnp.where(relative, lax.stop_gradient(size), 1.0)
    y = scs_jax.sharpened_cosine_similarity(x, kernel, p, here)
    return jnp.where(unit, n ** (p / 2), 1.0) * y + perturbation

  def pair(x, inputs):
    (one, two), (at_one, at_two) = inputs
    y = layer(x, one, at_one)
    z = layer(y, two, at_two) + residual * x
    return z, jnp.stack([_rms(y), _rms(z)])

  x = scs_jax.sharpened_cosine_similarity(images, first, p, q) * jnp.where(
    unit, math.prod(first.shape[:3]) ** (p / 2), 1.0
  )
  x, sizes = lax.scan(pair, x, (kernels, perturbations))
  return x, sizes.reshape(-1)


def _rms(x):
  return jnp.sqrt(jnp.square(x).mean())


@jax.jit
def measure(key, images, case):
  """Returns the root mean squares of activations and of gradients at the output of every layer."""
  keys = jax.random.split(key, 3)
  draw = lambda key, shape: jax.random.normal(key, shape)
  kernels = draw(keys[0], (DEPTH // 2, 2, 3, 3, WIDTH, WIDTH))
  first = draw(keys[1], (3, 3, images.shape[-1], WIDTH))
  zeros = jnp.zeros((DEPTH // 2, 2, *images.shape[:-1], WIDTH))
  function = lambda e: signal(kernels, first, e, images, *case)
  y, pull, sizes = jax.vjp(function, zeros, has_aux=True)
  (gradients,) = pull(draw(keys[2], y.shape))
  return sizes, jnp.sqrt(jnp.square(gradients).mean(range(2, gradients.ndim))).reshape(-1)


def main():
  examples = sources.load('cifar10', 'test')
  images = jnp.asarray(examples.images[:BATCH] / 255, jnp.float32)
  results = {}
  for name, case in CASES.items():
    runs = [measure(jax.random.key(seed), images, case) for seed in range(SEEDS)]
    sizes, gradients = (np.median(np.stack(a), 0) for a in zip(*runs, strict=True))
    results[name] = {'activations': sizes.tolist(), 'gradients': gradients.tolist()}
    spans = [_span(a) for a in (sizes, gradients)]
    print(f'{name:50s} activations ×{spans[0]:<10.3g} gradients ×{spans[1]:<10.3g}', flush=True)
  (HERE / 'results.json').write_text(json.dumps(results) + '\n')
  draw(results)


def _span(a):
  """How many times the largest is the smallest."""
  return float(a.max() / a.min()) if a.min() > 0 else math.inf


def draw(results):
  """Writes depth.png: activations and gradients against the layer."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  shown = {
    'plain, p = 2, q = 0.1': ('#b2182b', '-'),
    'plain, p = 2, q = 0.001': ('#ef8a62', '-'),
    'plain, unit output, p = 2, q = 0.001': ('#67a9cf', '-'),
    'plain, unit output, p = 1.25, q = 0.001': ('#2166ac', '-'),
    'shortcuts, p = 2, q = 0.001': ('#ef8a62', '--'),
    'shortcuts, unit output, p = 1.25, q = 0.001': ('#2166ac', '--'),
  }
  figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout='constrained')
  for axes, quantity in zip(panels, ('activations', 'gradients'), strict=True):
    for name, (color, style) in shown.items():
      values = np.maximum(results[name][quantity], 1e-30)
      axes.semilogy(range(1, DEPTH + 1), values / values[0 if quantity == 'activations' else -1],
                    color=color, linestyle=style, label=name)  # fmt: skip
    axes.set_ylim(1e-5, 1e5)
    axes.set_xlabel('layer')
  panels[0].set_title('activations, relative to the first layer')
  panels[1].set_title('gradients, relative to the last layer')
  panels[1].legend(frameon=False, fontsize=8)
  figure.savefig(HERE / 'depth.png', dpi=120)


if __name__ == '__main__':
  main()
