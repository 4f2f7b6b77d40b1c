"""Metrics as weighted sums, so that batches of any size add up to exact means."""

import jax
import jax.numpy as jnp


def weighted_sums(values: dict[str, jax.Array], weight: jax.Array) -> dict[str, jax.Array]:
  """Sums values over a batch; examples of weight 0 are padding and do not count.

  Args:
    values: arrays `[batch]` by name.
    weight: `[batch]`, 0 or 1.

  Returns:
    A scalar for each name, and 'weight': what to divide by, after adding up all batches.
  """
  # where, not a product: padding may hold anything.
  sums = {name: jnp.where(weight > 0, value, 0).sum() for name, value in values.items()}
  return {**sums, 'weight': weight.sum()}


def means(sums: dict[str, jax.Array]) -> dict[str, float]:
  """Returns the means that `weighted_sums`, added up, stand for."""
  return {name: float(v) / float(sums['weight']) for name, v in sums.items() if name != 'weight'}
