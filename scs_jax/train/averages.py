"""Averages of the weights, with which a network is evaluated instead of the last ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scs_jax.train import optim

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Average:
  """The weights that a network is evaluated with.

  Attributes:
    params: like `State.params`.
    statistics: like `State.statistics`.
    steps: `[]` int32, the number of steps in the average.
  """

  params: PyTree
  statistics: PyTree
  steps: jax.Array


# Maps the average and the parameters, statistics and optimizer state after a step to the average
# after that step.
Update = Callable[[Average, PyTree, PyTree, PyTree], Average]


def of(optimizer: str, ema_decay: float | None) -> Update | None:
  """Returns how a run averages its weights; None if it does not.

  Args:
    optimizer: its name; those of `optim.SCHEDULE_FREE` average by themselves.
    ema_decay: share of an exponential average that each step keeps; None if there is none.
  """
  if optimizer in optim.SCHEDULE_FREE:
    return schedule_free
  return None if ema_decay is None else exponential(ema_decay)


def exponential(decay: float) -> Update:
  """Returns the update of an exponential average.

  The weights decay**i of the steps so far sum to 1, so the first, random parameters have none.
  Statistics are averaged too, because those of the last parameters do not fit averaged ones.

  Args:
    decay: share of the average that each step keeps.
  """

  def update(average: Average, params: PyTree, statistics: PyTree, _: PyTree) -> Average:
    steps = average.steps + 1
    newest = (1 - decay) / (1 - decay**steps)
    add = lambda new, old: (
      optax.incremental_update(new, old, newest) if jnp.issubdtype(new.dtype, jnp.inexact) else new
    )
    return Average(
      jax.tree.map(add, params, average.params),
      jax.tree.map(add, statistics, average.statistics),
      steps,
    )

  return update


def schedule_free(
  average: Average, params: PyTree, statistics: PyTree, optimizer: PyTree
) -> Average:
  """Returns the average that a schedule-free optimizer keeps, with the last statistics."""
  return Average(optim.averaged(optimizer, params), statistics, average.steps + 1)
