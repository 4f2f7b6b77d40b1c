"""Times functions beside one another."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax


def interleaved(
  functions: Mapping[str, Callable[[], object]], rounds: int = 15, budget_s: float = 6.0
) -> dict[str, float]:
  """Returns the median seconds of each function.

  All are called in every round, forwards and backwards by turns, so that whatever else the machine
  does falls on all of them alike. Everything is called once before, to compile. What takes more
  than a sixth of the budget is called once more and no oftener.

  Args:
    functions: by name; each returns arrays, which are waited for.
    rounds: how often each is called, at most.
    budget_s: no round is begun after this, but there are at least three.
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


def _seconds(function):
  start = time.perf_counter()
  jax.block_until_ready(function())
  return time.perf_counter() - start
