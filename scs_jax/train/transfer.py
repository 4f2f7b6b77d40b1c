"""First weights from a network that is trained already: `config.init_from`."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from scs_jax import pretrained
from scs_jax.errors import ArgumentError
from scs_jax.train import averages
from scs_jax.train.freeze import name_of
from scs_jax.train.keys import MAY_CHANGE
from scs_jax.workdir import Checkpoints, config_hash, folder, holds_run, read_config

PyTree = Any
_SHOWN = 6  # names in a message


@dataclasses.dataclass(frozen=True)
class Transferred:
  """What a network takes over from another.

  Attributes:
    arrays: by name, in the dtypes of the network.
    said: one line that says what fits and what does not.
  """

  arrays: dict[str, np.ndarray]
  said: str


def take(source: str, params: PyTree, statistics: PyTree) -> Transferred:
  """Returns the arrays of `source` that have name and shape of an array of the network.

  Args:
    source: a workdir, whose averaged weights are taken if it has any; the name of a network of the
      package; or a `.safetensors` file.
    params: of the network to initialise, a nested dict of shapes.
    statistics: likewise.

  Raises:
    ArgumentError: there is no such source, or nothing in it fits.
    UserError: it is damaged.
  """
  theirs = _arrays(source)
  leaves = jax.tree_util.tree_leaves_with_path((params, statistics))
  ours = {name_of(path[1:]): leaf for path, leaf in leaves}
  fits = {name for name in ours.keys() & theirs.keys() if theirs[name].shape == ours[name].shape}
  if not fits:
    raise ArgumentError(
      f'init_from={source!r}: nothing in it has the name and the shape of an array of the network, '
      f'which has {_some(ours)}; there is {_some(theirs)}'
    )
  count = f'{len(fits)} of' if len(fits) < len(ours) else 'all'
  said = [f'init_from={source}: {count} {len(ours)} arrays are taken over']
  sizes = lambda name: f'{name} (there {_size(theirs[name])}, here {_size(ours[name])})'
  if changed := sorted(ours.keys() & theirs.keys() - fits):
    said.append(f'of another shape: {_some(map(sizes, changed))}')
  if absent := sorted(ours.keys() - theirs.keys()):
    said.append(f'not there: {_some(absent)}')
  if unused := sorted(theirs.keys() - ours.keys()):
    said.append(f'not used: {_some(unused)}')
  arrays = {name: np.asarray(theirs[name]).astype(ours[name].dtype) for name in sorted(fits)}
  return Transferred(arrays, '; '.join(said))


def replaced(tree: PyTree, arrays: dict[str, jax.Array]) -> PyTree:
  """Returns a nested dict with the arrays of those names in the place of its own."""
  return jax.tree_util.tree_map_with_path(lambda path, leaf: arrays.get(name_of(path), leaf), tree)


def checkpoint(
  workdir: str | os.PathLike, step: int | None = None, *, averaged: bool = True
) -> tuple[int, PyTree, PyTree]:
  """Returns the step, the parameters and the statistics of a checkpoint.

  Args:
    workdir: where a run trained.
    step: of the checkpoint; None means the newest good one.
    averaged: whether to take averaged weights if there are any.

  Raises:
    ArgumentError: the workdir holds no run, or no checkpoint.
    scs_jax.workdir.CheckpointError: the checkpoint is damaged or absent, or none is intact.
  """
  path = folder(workdir)
  config = read_config(path)
  update = averages.of(config.get('optimizer', {}).get('name', ''), config.get('ema_decay'))
  parts = ['ema'] if averaged and update is not None else ['params', 'statistics']
  held = config_hash(path, MAY_CHANGE)
  with Checkpoints(path / 'checkpoints', config=held, read_only=True) as checkpoints:
    restored = checkpoints.restore_parts(parts, step)
  if restored is None:
    raise ArgumentError(f'the workdir {path} holds no checkpoint yet: train longer')
  state = restored.state.get('ema', restored.state)
  return restored.step, state['params'], state.get('statistics', {})


def _arrays(source: str) -> dict[str, Any]:
  """Returns the arrays of a source by name."""
  try:
    kind = pretrained.kind_of(source)
    if kind == 'workdir':
      path = folder(source)
      if not holds_run(path):
        what = 'holds no run' if path.exists() else 'is no folder'
        known = ', '.join(pretrained.names())
        raise ArgumentError(
          f'{what}: name the workdir of a training run, a .safetensors file, or a network of the '
          f'package ({known})'
        )
      leaves = jax.tree_util.tree_leaves_with_path(checkpoint(path)[1:])
      return {name_of(place[1:]): leaf for place, leaf in leaves}
    load = pretrained.load if kind == 'name' else pretrained.weights.load
    return pretrained.weights.named(load(source))
  except ArgumentError as error:
    raise ArgumentError(f'init_from={source!r}: {error}') from error


def _size(array: Any) -> str:
  return '×'.join(map(str, array.shape)) or 'a number'


def _some(words: Iterable[str]) -> str:
  words = list(words)
  return ', '.join(words[:_SHOWN]) + f' and {len(words) - _SHOWN} more' * (len(words) > _SHOWN)
