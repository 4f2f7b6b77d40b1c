"""Test-time augmentation: the mean of what a network says of an image and of its mirror image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scs_jax import train
from scs_jax.data import Examples

ROWS = 500  # of a batch


def accuracy(model: Callable[..., jax.Array], examples: Examples) -> float:
  """Returns the share of `examples` that the mean of both outputs classifies right."""

  @jax.jit
  def outputs(images):
    images = train.as_float(images)
    return model(images, train=False) + model(images[:, :, ::-1], train=False)

  right = 0
  for start in range(0, len(examples.labels), ROWS):
    rows = slice(start, start + ROWS)
    right += int((jnp.argmax(outputs(examples.images[rows]), -1) == examples.labels[rows]).sum())
  return right / len(examples.labels)
