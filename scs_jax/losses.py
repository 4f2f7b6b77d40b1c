"""Losses, one value for each example."""

import jax
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
  """Softmax cross-entropy.

  Args:
    logits: `[batch, classes]`.
    labels: `[batch]`, integers in `[0, classes)`.
    label_smoothing: the share of the target that is spread evenly over all classes.

  Returns:
    `[batch]`, float32, in nats.
  """
  targets = jax.nn.one_hot(labels, logits.shape[-1], dtype='float32')
  targets = optax.smooth_labels(targets, label_smoothing)
  return optax.softmax_cross_entropy(logits.astype('float32'), targets)
