"""Sharpened cosine similarity in JAX: primitives, Flax layers, and a sharded training loop.

The ops are plain functions on arrays; `scs_jax.nnx` and `scs_jax.linen` wrap them as layers. The
rooms for training, `scs_jax.train`, `scs_jax.data` and `scs_jax.models`, are imported when they are
first used: the primitives need jax and flax alone.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from scs_jax import errors, explanation, layers
from scs_jax.errors import ArgumentError, MissingPackageError
from scs_jax.explanation import explain
from scs_jax.layers import linen, nnx
from scs_jax.ops import (
  abs_max_pool,
  b_cos,
  sharpened_cosine_attention,
  sharpened_cosine_dense,
  sharpened_cosine_similarity,
  sharpened_cosine_transpose,
  soft_cosine_similarity,
)

if TYPE_CHECKING:
  import flax.nnx

  from scs_jax import data, export, models, pretrained, summary, train, workdir

__version__ = '0.2.0.dev0'

__all__ = [
  'abs_max_pool',
  'b_cos',
  'data',
  'errors',
  'explain',
  'explanation',
  'export',
  'layers',
  'linen',
  'load',
  'models',
  'nnx',
  'pretrained',
  'sharpened_cosine_attention',
  'sharpened_cosine_dense',
  'sharpened_cosine_similarity',
  'sharpened_cosine_transpose',
  'soft_cosine_similarity',
  'summary',
  'train',
  'workdir',
]


def load(source: str | os.PathLike, step: int | None = None) -> 'flax.nnx.Module':
  """Returns a trained network, in evaluation mode.

  Neither its data set nor a config file is needed.

  Args:
    source: one of
      - the workdir of a run: a folder or `gs://`;
      - the name of a network that comes with the package, see `scs_jax.pretrained.names()`;
      - a file that `scs_jax.export.to_safetensors` wrote.
    step: of the checkpoint of a workdir; None means the newest good one.

  Returns:
    The network. It maps images `[batch, height, width, channels]`, float32 from 0 to 1, to logits
    `[batch, num_classes]`.

  Raises:
    scs_jax.errors.ArgumentError: there is no such name, file, run or checkpoint; the message
      suggests the nearest name.
    scs_jax.errors.UserError: the file of a name is damaged.
    scs_jax.errors.MissingPackageError: a workdir needs a package of the extra `[train]`.
    scs_jax.workdir.CheckpointError: the checkpoint is damaged or absent, or none is intact.

  Example:
    >>> import scs_jax
    >>> model = scs_jax.load('mnist_1382')
    >>> model = scs_jax.load('/tmp/quickstart')  # doctest: +SKIP
    >>> logits = model(images)  # doctest: +SKIP
  """
  text, pretrained = os.fspath(source), _room('pretrained')
  kind = pretrained.kind_of(text)
  if kind == 'workdir':
    return _room('train').load(source, step)
  if step is not None:
    raise ArgumentError(f'step={step} is for the checkpoints of a workdir, and {text!r} has none')
  return pretrained.load(text) if kind == 'name' else pretrained.weights.load(text)


def __getattr__(name: str) -> Any:
  """Imports the rooms for training when they are first used."""
  if name in ('data', 'export', 'models', 'pretrained', 'summary', 'train', 'workdir'):
    return _room(name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _room(name: str) -> Any:
  """Imports a room; says how to install what it needs if that is absent."""
  try:
    return importlib.import_module(f'scs_jax.{name}')
  except ModuleNotFoundError as error:
    if (error.name or 'scs_jax').startswith('scs_jax'):
      raise
    raise MissingPackageError(
      f"scs_jax.{name} needs {error.name}, which is absent; run: pip install 'scs-jax[train]'"
    ) from error
