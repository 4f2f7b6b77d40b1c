"""Fifty SCS layers, the cases that are compared, and the sizes of what passes through them."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.figure import Figure

import scs_jax

DEPTH, WIDTH = 50, 16
FORMS = {  # output of unit size, shortcuts
  'plain': (False, False),
  'plain, unit output': (True, False),
  'shortcuts': (False, True),
  'shortcuts, unit output': (True, True),
}
# p, q, whether q is relative to the norm of the patches, output of unit size, shortcuts.
CASES = {
  f'{form}, p = {p:g}, q = {"relative " if relative else ""}{q:g}': (p, q, relative, unit, residual)
  for form, (unit, residual) in FORMS.items()
  for p in (1.0, 1.25, 1.5, 2.0, 3.0)
  for q, relative in ((0.0, False), (1e-3, False), (0.1, False), (0.1, True))
}
Case = tuple[Any, ...]  # values of CASES without p

SHOWN = {  # color and line of the pictures
  'plain, p = 2, q = 0.1': ('#b2182b', '-'),
  'plain, p = 2, q = 0.001': ('#b2182b', ':'),  # in front of the one of unit output
  'plain, unit output, p = 2, q = 0.001': ('#67a9cf', '-'),
  'plain, unit output, p = 1.25, q = 0.001': ('#2166ac', '-'),
  'shortcuts, p = 2, q = 0.001': ('#ef8a62', '--'),
  'shortcuts, unit output, p = 1.25, q = 0.001': ('#2166ac', '--'),
  'shortcuts, unit output, p = 2, q = 0.001': ('#67a9cf', '--'),
}


def draw_weights(key: jax.Array, channels: int, p: jax.typing.ArrayLike) -> dict[str, jax.Array]:
  """Returns what the layers learn.

  Returns:
    'first', the kernel of the layer that sees the image, `[3, 3, channels, WIDTH]`; 'kernels' of
    all other layers, `[DEPTH // 2, 2, 3, 3, WIDTH, WIDTH]`; and 'log_p', the logarithms of their
    exponents, `[DEPTH // 2, 2]`.
  """
  keys = jax.random.split(key)
  return {
    'kernels': jax.random.normal(keys[0], (DEPTH // 2, 2, 3, 3, WIDTH, WIDTH)),
    'first': jax.random.normal(keys[1], (3, 3, channels, WIDTH)),
    'log_p': jnp.full((DEPTH // 2, 2), jnp.log(p)),
  }


def signal(
  weights: Mapping[str, jax.Array],
  perturbations: jax.Array,
  images: jax.Array,
  q: jax.typing.ArrayLike,
  relative: jax.typing.ArrayLike,
  unit: jax.typing.ArrayLike,
  residual: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array]:
  """Passes images through all layers.

  The layers come in pairs, with or without a shortcut around each pair. The layer before them,
  which sees the image, has the exponent of the first pair's first layer.

  Args:
    weights: see `draw_weights`.
    perturbations: added to the output of every layer, see `no_perturbations`.
    images: `[n, height, width, channels]`.
    q: of all layers.
    relative: whether q is relative to the norm of the patches.
    unit: whether outputs are of unit size.
    residual: whether there are shortcuts.

  Returns:
    The last activations `[n, height, width, WIDTH]`, and the root mean square of the output of
    every layer, `[DEPTH]`.
  """

  def layer(x: jax.Array, kernel: jax.Array, log_p: jax.Array, q: Any) -> jax.Array:
    n = math.prod(kernel.shape[:3])
    p = jnp.exp(log_p)
    y = scs_jax.sharpened_cosine_similarity(x, kernel, p, q)
    return jnp.where(unit, n ** (p / 2), 1.0) * y

  def inner(x: jax.Array, kernel: jax.Array, log_p: jax.Array, perturbation: jax.Array):
    # A patch has about n values as large as the typical one.
    size = jnp.sqrt(math.prod(kernel.shape[:3]) * jnp.square(x).mean())
    here = q * jnp.where(relative, lax.stop_gradient(size), 1.0)
    return layer(x, kernel, log_p, here) + perturbation

  def pair(x: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]):
    kernels, log_p, perturbation = inputs
    y = inner(x, kernels[0], log_p[0], perturbation[0])
    z = inner(y, kernels[1], log_p[1], perturbation[1]) + residual * x
    return z, jnp.stack([_rms(y), _rms(z)])

  x = layer(images, weights['first'], weights['log_p'][0, 0], q)
  layers = weights['kernels'], weights['log_p'], perturbations
  # Unrolled: on CPUs convolutions are several times slower inside a loop.
  x, sizes = lax.scan(pair, x, layers, unroll=True)
  return x, sizes.reshape(-1)


def no_perturbations(images: jax.Array) -> jax.Array:
  """Returns zeros to add to the outputs of all layers: their gradient is that of the outputs."""
  return jnp.zeros((DEPTH // 2, 2, *images.shape[:-1], WIDTH))


def by_layer(gradients: jax.Array) -> jax.Array:
  """Returns the root mean square of the gradient at the output of every layer, `[DEPTH]`."""
  return jnp.sqrt(jnp.square(gradients).mean(range(2, gradients.ndim))).reshape(-1)


def _rms(x: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.square(x).mean())


def span(values: Any) -> float:
  """Returns the largest value divided by the smallest; infinity if one is 0."""
  a = np.asarray(values)
  return float(a.max() / a.min()) if a.min() > 0 else math.inf


def draw(results: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
  """Draws 'activations' and 'gradients' of the cases `SHOWN` against the layer."""
  figure = Figure(figsize=(11, 4), layout='constrained')
  panels = figure.subplots(1, 2)
  for axes, quantity in zip(panels, ('activations', 'gradients'), strict=True):
    for name, (color, style) in SHOWN.items():
      values = np.maximum(results[name][quantity], 1e-30)
      values = values / values[0 if quantity == 'activations' else -1]
      order = 3 if style == ':' else 2
      layers = range(1, DEPTH + 1)
      axes.semilogy(layers, values, color=color, linestyle=style, label=name, zorder=order)
    axes.set_ylim(1e-5, 1e5)
    axes.set_xlabel('layer')
  panels[0].set_title('activations, relative to the first layer')
  panels[1].set_title('gradients, relative to the last layer')
  panels[1].legend(frameon=False, fontsize=8)
  figure.savefig(path, dpi=120)
