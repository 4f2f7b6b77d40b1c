"""Test-time augmentation: the mean of a network's outputs for an image and its mirror image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scs_jax.data import Examples
from scs_jax.train import as_float

ROWS = 500  # images a batch


def accuracy(model: Callable[[jax.Array], jax.Array], examples: Examples) -> float:
  """Returns the share of examples that the mean of both outputs classifies correctly.

  Args:
    model: maps images `[batch, height, width, channels]`, float32 from 0 to 1, to logits.
    examples: with uint8 images.
  """

  @jax.jit
  def outputs(images: jax.Array) -> jax.Array:
    images = as_float(images)
    return model(images) + model(images[:, :, ::-1])

  right = 0
  for start in range(0, len(examples.labels), ROWS):
    rows = slice(start, start + ROWS)
    right += int((jnp.argmax(outputs(examples.images[rows]), -1) == examples.labels[rows]).sum())
  return right / len(examples.labels)
