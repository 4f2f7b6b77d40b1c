"""Sharpened cosine similarity in JAX: primitives, Flax layers, and a sharded training loop.

The ops are plain functions on arrays; `scs_jax.nnx` and `scs_jax.linen` wrap them as layers. The
rooms for training, `scs_jax.train`, `scs_jax.data` and `scs_jax.models`, are imported when they are
first used: the primitives need jax and flax alone.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from scs_jax.explanation import explain
from scs_jax.layers import linen, nnx
from scs_jax.ops import (
  abs_max_pool,
  b_cos,
  sharpened_cosine_attention,
  sharpened_cosine_similarity,
  soft_cosine_similarity,
)

if TYPE_CHECKING:
  import flax.nnx

  from scs_jax import data, models, train

__version__ = '0.2.0.dev0'

__all__ = [
  'abs_max_pool',
  'b_cos',
  'data',
  'explain',
  'linen',
  'load',
  'models',
  'nnx',
  'sharpened_cosine_attention',
  'sharpened_cosine_similarity',
  'soft_cosine_similarity',
  'train',
]


def load(workdir: str | os.PathLike, step: int | None = None) -> 'flax.nnx.Module':
  """Returns the trained network of a workdir, in evaluation mode.

  The workdir says by itself what it holds: neither the data set nor a config file is needed.

  Args:
    workdir: where a run trained, a folder or `gs://`.
    step: of the checkpoint; None means the newest good one.

  Returns:
    The network. It maps images `[batch, height, width, channels]`, float32 from 0 to 1, to logits
    `[batch, num_classes]`.

  Raises:
    scs_jax.errors.ArgumentError: the workdir holds no run, or no checkpoint.
    scs_jax.workdir.CheckpointError: the checkpoint is damaged or absent, or none is intact.

  Example:
    >>> import scs_jax
    >>> model = scs_jax.load('/tmp/quickstart')  # doctest: +SKIP
    >>> logits = model(images)  # doctest: +SKIP
  """
  return importlib.import_module('scs_jax.train').load(workdir, step)


def __getattr__(name: str) -> Any:
  """Imports the rooms for training when they are first used."""
  if name in ('data', 'models', 'train'):
    return importlib.import_module(f'scs_jax.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
