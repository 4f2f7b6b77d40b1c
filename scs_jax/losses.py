"""Losses, one value for each example."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
  """Softmax cross-entropy.

  Args:
    logits: `[batch, classes]`.
    labels: `[batch]`, integers in `[0, classes)`.
    label_smoothing: the share of the target that is spread evenly over all classes.

  Returns:
    `[batch]`, in nats; float32, or float64 for float64 logits.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
  return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))
