"""Trained networks that come with the package.

Each network has two files in this folder: its weights, `NAME.safetensors`, and its card,
`NAME.json`. A card says how the network was trained, its accuracy on all test images of its data
set, and the SHA-256 of its weights. `experiments/pretrained` makes the files.
"""

import hashlib
import importlib.resources
import json
import os
from importlib.resources.abc import Traversable
from typing import Any

from flax import nnx

from scs_jax.errors import ArgumentError, UserError, check_known
from scs_jax.models import weights

__all__ = ['card', 'files', 'kind_of', 'load', 'names', 'weights']


def names() -> tuple[str, ...]:
  """Returns the names of all networks.

  Example:
    >>> from scs_jax import pretrained
    >>> 'mnist_1382' in pretrained.names()
    True
  """
  found = (file.name for file in files().iterdir())
  return tuple(sorted(name.removesuffix('.json') for name in found if name.endswith('.json')))


def files() -> Traversable:
  """Returns the folder of the files."""
  return importlib.resources.files(__name__)


def card(name: str) -> dict[str, Any]:
  """Returns the card of a network.

  - `parameters`: the number of learned numbers.
  - `accuracy`: of these weights, from 0 to 1, on all images of `evaluated_on`.
  - `accuracy_over_seeds`: of the runs of this config, this one among them, first seed first.
  - `input`: `shape`, `(height, width, channels)`, `dtype` and `range` of an image.
  - `classes`: their names, in the order of the logits.
  - `config`: the whole config of the run, `seed` included; `command` runs it again.
  - `commit`, `versions`, `machine`, `date`: of the training. `chosen`: the rule of the choice.
  - `sha256`: of the weights. `licence`: of the weights. `data`: who made the data set.

  Raises:
    ArgumentError: there is no such network; the message suggests the nearest name.
    UserError: the card is damaged.
  """
  check_known('pretrained network', name, names())
  file = files() / f'{name}.json'
  try:
    found = json.loads(file.read_text())
    if not isinstance(found, dict):
      raise ValueError(f'it holds a {type(found).__name__}')
  except (OSError, ValueError) as error:
    raise UserError(f'{file} is damaged ({error}): install scs-jax again') from error
  return found


def load(name: str) -> nnx.Module:
  """Returns a network that comes with the package, in evaluation mode.

  Args:
    name: one of `names()`.

  Returns:
    The network. It maps images `[batch, height, width, channels]`, float32 from 0 to 1, to logits
    `[batch, num_classes]`.

  Raises:
    ArgumentError: there is no such network; the message suggests the nearest name.
    UserError: one of its files is damaged.

  Example:
    >>> import jax.numpy as jnp
    >>> from scs_jax import pretrained
    >>> pretrained.load('mnist_1382')(jnp.zeros((1, 28, 28, 1))).shape
    (1, 10)
  """
  expected = card(name).get('sha256')
  file = files() / f'{name}{weights.SUFFIX}'
  try:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
  except OSError as error:
    raise UserError(f'{file} cannot be read ({error}): install scs-jax again') from error
  if found != expected:
    raise UserError(
      f'{file} is damaged: its SHA-256 is {found}, and {expected} in its card. '
      'Install scs-jax again'
    )
  with importlib.resources.as_file(file) as path:
    return weights.load(path)


def kind_of(source: str) -> str:
  """Returns what `scs_jax.load` takes `source` for: 'name', 'file' or 'workdir'.

  A word that is no path is a name, unless there is a folder of that name.

  Raises:
    ArgumentError: it is neither a name nor a folder, or it is both.
  """
  if source.endswith(weights.SUFFIX):
    return 'file'
  if os.path.basename(source) != source or not source:
    return 'workdir'
  if not os.path.exists(source):
    check_known('folder or pretrained network', source, names())
    return 'name'
  if source in names():
    raise ArgumentError(
      f'{source!r} is a network of the package and also a folder here: write '
      f'./{source} for the folder, or call scs_jax.pretrained.load({source!r})'
    )
  return 'workdir'
