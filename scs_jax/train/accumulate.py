"""Gradient accumulation: a batch that does not fit into memory at once, in parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def accumulated(
  gradient: Callable[..., tuple[PyTree, PyTree, PyTree]],
  parts: int,
  params: PyTree,
  statistics: PyTree,
  *rows: jax.Array,
) -> tuple[PyTree, PyTree, PyTree]:
  """Returns what `gradient` returns for a whole batch, from equal parts of it.

  Gradients and metrics are means over examples, so the mean over the parts is that over the batch,
  up to rounding. BatchNorm is the exception: it normalises each part by that part's statistics and
  updates its running ones after each. Dropout draws anew for each part.

  Args:
    gradient: a function of parameters, statistics and rows. It returns new statistics, gradients
      and metrics.
    parts: of the batch; they divide its rows. 1 calls `gradient` once.
    params: nested dict.
    statistics: nested dict; each part continues with those of the part before.
    *rows: arrays of one row for each example.

  Returns:
    Statistics, gradients and metrics.
  """
  if parts == 1:
    return gradient(params, statistics, *rows)
  # Part i has every `parts`-th row from row i on, so that no row leaves its device.
  in_parts = lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)
  rows = jax.tree.map(in_parts, rows)
  shapes = jax.eval_shape(gradient, params, statistics, *(x[0] for x in rows))[1:]

  def add(carry, part):
    statistics, sums = carry
    statistics, *found = gradient(params, statistics, *part)
    return (statistics, jax.tree.map(lambda s, x: s + x.astype(s.dtype), sums, tuple(found))), None

  wide = lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))
  (statistics, sums), _ = jax.lax.scan(add, (statistics, jax.tree.map(wide, shapes)), rows)
  grads, values = jax.tree.map(lambda s, x: (s / parts).astype(x.dtype), sums, shapes)
  return statistics, grads, values
