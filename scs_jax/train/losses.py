"""Objectives: a loss and other metrics, one value for each example."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
  """Softmax cross-entropy.

  Args:
    logits: `[batch, classes]`.
    labels: `[batch]`, integers in `[0, classes)`; or `[batch, classes]`, probabilities.
    label_smoothing: share of the target that is spread evenly over all classes.

  Returns:
    `[batch]`, in nats; float32, or float64 for float64 logits.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  targets = labels.astype(logits.dtype)
  if labels.ndim == 1:
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
  return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns `[batch]` float32: 1 where the largest of `logits [batch, classes]` is the label's.

  Of labels `[batch, classes]`, which are probabilities, it is the one of that class.
  """
  found = logits.argmax(-1)
  if labels.ndim == 1:
    return (found == labels).astype(jnp.float32)
  return jnp.take_along_axis(labels, found[:, None], -1)[:, 0].astype(jnp.float32)


def classification(
  logits: jax.Array, images: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> dict[str, jax.Array]:
  """Returns 'loss', the cross-entropy, and 'accuracy', each `[batch]`."""
  del images
  return {
    'loss': cross_entropy(logits, labels, label_smoothing),
    'accuracy': correct(logits, labels),
  }


def reconstruction(
  outputs: jax.Array, images: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> dict[str, jax.Array]:
  """Returns 'loss', the mean squared error, and 'psnr' in dB for images from 0 to 1; `[batch]`."""
  del labels, label_smoothing
  error = jnp.square(outputs.astype(jnp.float32) - images).mean(range(1, images.ndim))
  return {'loss': error, 'psnr': -10 * jnp.log10(error)}


OBJECTIVES = {'classification': classification, 'reconstruction': reconstruction}
BEST = {'classification': 'val/accuracy', 'reconstruction': 'val/psnr'}  # the higher the better


def output_shape(objective: str, input_shape: tuple[int, ...], num_classes: int) -> tuple[int, ...]:
  """Returns the shape of what a model must return for one image, for an objective of `OBJECTIVES`.

  Args:
    objective: its name.
    input_shape: `(height, width, channels)` of an image.
    num_classes: of the data set.
  """
  return input_shape if objective == 'reconstruction' else (num_classes,)
