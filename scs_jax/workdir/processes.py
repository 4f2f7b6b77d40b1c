"""Work that process 0 does for all processes, and the errors that all of them then raise."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scs_jax.errors import ArgumentError, UserError


class CheckpointError(UserError, RuntimeError):
  """A checkpoint cannot be restored, or does not fit this model."""


class SaveError(CheckpointError, OSError):
  """A checkpoint or a row of metrics could not be written. The earlier ones are untouched."""


class WorkdirError(UserError, RuntimeError):
  """The folder of a run is in use, or it disappeared."""


# The kinds of error that travel between processes. Any other arrives as CheckpointError.
_KINDS = {kind.__name__: kind for kind in (SaveError, WorkdirError, ArgumentError, ValueError)}


def on_process_zero(function: Callable[[], Any]) -> Any:
  """Runs `function` on process 0. Every process returns its result or raises its error.

  With several processes this is a collective: every process must call it, from the main thread.

  Args:
    function: its result must be JSON. With several processes, tuples arrive as lists.
  """
  if jax.process_count() == 1:
    return function()
  error = result = None
  if jax.process_index() == 0:
    try:
      result = function()
    except Exception as caught:  # raised below, after the other processes received it
      error = caught
  result, kind, message = broadcast([result, type(error).__name__, str(error)])
  if error is not None:
    raise error
  if kind != 'NoneType':
    # The kind must be the same everywhere. A caller that catches one kind would otherwise make the
    # processes diverge.
    raise _KINDS.get(kind, CheckpointError)(message)
  return result


def anywhere(flag: bool) -> bool:
  """Whether `flag` is set on any process; a collective like `on_process_zero`."""
  return any(gather(flag))


_BLOCK = 4096  # bytes; each length is compiled once


def gather(value: Any) -> list[Any]:
  """Returns the JSON values that all processes pass, in their order, on every process.

  A collective like `on_process_zero`. The processes may have different numbers of devices.
  """
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = _gathered(np.array([data.size], np.int32))[:, 0]
  rows = _gathered(np.resize(data, -(-sizes.max() // _BLOCK) * _BLOCK))
  return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def _gathered(row: np.ndarray) -> np.ndarray:
  """Stacks the rows `[n]` of all processes: `[processes, n]`."""
  if jax.process_count() == 1:
    return row[None]
  first = {device.process_index: device for device in reversed(jax.devices())}
  mesh = Mesh([first[index] for index in sorted(first)], 'process')
  split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (['process'], []))
  rows = jax.make_array_from_process_local_data(split, row[None])
  return np.asarray(jax.jit(lambda x: x, out_shardings=whole)(rows).addressable_data(0))


def broadcast(value: Any) -> Any:
  """Returns the JSON value that process 0 passes, on every process."""
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  # A broadcast needs the same shape on every process.
  received = multihost_utils.broadcast_one_to_all(np.resize(data, size))
  return json.loads(np.asarray(received, np.uint8).tobytes())
