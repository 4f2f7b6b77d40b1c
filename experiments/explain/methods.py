"""Attribution methods: each gives every pixel of an image a share in a logit."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

import scs_jax

Method = Callable[[jax.Array, jax.Array], jax.Array]  # of images and classes

INTEGRATION_STEPS = 16


def methods(model: nnx.Module) -> dict[str, Method]:
  """Returns the methods for a network.

  Each is a function of images `[batch, height, width, channels]` and classes `[batch]`. It returns
  `[batch, height, width]`: the shares of the channels are added.
  """
  graph, state = nnx.split(model)

  def logit(images, classes):
    logits = nnx.merge(graph, state)(images)
    return jnp.take_along_axis(logits, classes[:, None], 1).sum()

  def gradient_times_input(images, classes):
    return (images * jax.grad(logit)(images, classes)).sum(-1)

  def integrated_gradients(images, classes):
    """Integrates over the way from a black image, by the midpoint rule (Sundararajan, 2017)."""

    def step(total, fraction):
      return total + jax.grad(logit)(fraction * images, classes), None

    fractions = (jnp.arange(INTEGRATION_STEPS) + 0.5) / INTEGRATION_STEPS
    total, _ = jax.lax.scan(step, jnp.zeros_like(images), fractions)
    return (images * total).sum(-1) / INTEGRATION_STEPS

  return {
    'contributions': lambda x, classes: scs_jax.explain(model, x, classes).contributions.sum(-1),
    'gradient × input': jax.jit(gradient_times_input),
    'integrated gradients': jax.jit(integrated_gradients),
  }
