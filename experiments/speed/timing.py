"""Times functions beside one another."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax


def interleaved(
  functions: Mapping[str, Callable[[], object]], rounds: int = 15, budget_s: float = 6.0
) -> dict[str, float]:
  """Returns the median seconds of each function.

  Every function is called in every round, in alternating order, so that other load on the machine
  affects all of them alike. One call before the first round compiles. A function that takes more
  than a sixth of the budget is called only once after that.

  Args:
    functions: by name; each returns arrays, and its time ends when they are ready.
    rounds: the largest number of calls of each function.
    budget_s: no round starts after this many seconds, but there are at least three rounds.
  """
  for function in functions.values():
    jax.block_until_ready(function())
  times = {name: [_seconds(function)] for name, function in functions.items()}
  quick = [name for name, (seconds,) in times.items() if seconds < budget_s / 6]
  begun = time.perf_counter()
  for i in range(rounds):
    if i >= 3 and time.perf_counter() - begun > budget_s:
      break
    for name in quick[:: 1 if i % 2 else -1]:
      times[name].append(_seconds(functions[name]))
  return {name: statistics.median(seconds) for name, seconds in times.items()}


def _seconds(function: Callable[[], object]) -> float:
  start = time.perf_counter()
  jax.block_until_ready(function())
  return time.perf_counter() - start
