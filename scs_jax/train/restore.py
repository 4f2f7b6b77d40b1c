"""Trained networks, from the folder of the run that trained them."""

import os
import tempfile
from typing import Any

import numpy as np
from etils import epath
from flax import nnx

from scs_jax import pictures
from scs_jax.data.examples import check_names
from scs_jax.errors import ArgumentError
from scs_jax.train import config as configuration
from scs_jax.train import transfer
from scs_jax.train.experiment import Experiment
from scs_jax.workdir import (
  CheckpointError,
  check_same_run,
  folder,
  holds_run,
  manifest,
  read_config,
  read_sizes,
  write_whole,
)


def load(workdir: str | os.PathLike, step: int | None = None) -> nnx.Module:
  """Returns the trained network of a workdir, in evaluation mode.

  The workdir says by itself what it holds, so neither the data set nor a config file is needed. The
  weights are the averaged ones if the run averages them: those that were evaluated.

  Args:
    workdir: where a run trained, a folder or `gs://`.
    step: of the checkpoint; None means the newest good one.

  Returns:
    The network. It maps images `[batch, height, width, channels]` float32 from 0 to 1 to logits
    `[batch, num_classes]`. Its attribute `class_names` is the tuple of their names, or None.

  Raises:
    ArgumentError: the workdir holds no run or no checkpoint, or its config names a module that is
      not there.
    scs_jax.workdir.CheckpointError: the checkpoint is damaged or absent, or none is intact.

  Example:
    >>> model = scs_jax.load('/tmp/quickstart')  # doctest: +SKIP
    >>> logits = model(images)  # doctest: +SKIP
  """
  return trained(experiment_of(workdir), workdir, step)


def trained(
  experiment: Experiment, workdir: str | os.PathLike, step: int | None = None
) -> nnx.Module:
  """Returns what `load` returns, for a workdir whose experiment is at hand.

  Args:
    experiment: that of the workdir.
    workdir: where the run trained.
    step: of the checkpoint; None means the newest good one.

  Raises:
    ArgumentError: as `load`, and if the workdir holds a run of another config.
    scs_jax.workdir.CheckpointError: as `load`.
  """
  _, params, statistics = weights(experiment, workdir, step)
  model: Any = experiment.structure.merge(params, statistics)
  names = read_config(folder(workdir))['data'].get('class_names')
  model.class_names = check_names(names, experiment.sizes['num_classes']) if names else None
  return model


def experiment_of(workdir: str | os.PathLike) -> Experiment:
  """Returns the experiment that a workdir holds, from its `config.json` and `model.json`.

  Raises:
    ArgumentError: the workdir holds no run, or one of another version of scs_jax.
  """
  path = folder(workdir)
  if not holds_run(path):
    what = 'holds no run' if path.exists() else 'is no folder'
    raise ArgumentError(f'{os.fspath(workdir)!r} {what}: name the workdir of a training run')
  config = configuration.from_dict(read_config(path), str(path / 'config.json'))
  sizes = read_sizes(path)
  if sizes is not None:
    shape, classes = sizes['input_shape'], sizes['num_classes']
    return Experiment(config, sizes={'input_shape': tuple(shape), 'num_classes': classes})
  return Experiment(config)  # version 0.1.0 wrote no sizes: they are those of the data set


def weights(
  experiment: Experiment,
  workdir: str | os.PathLike,
  step: int | None = None,
  *,
  averaged: bool = True,
) -> tuple[int, Any, Any]:
  """Returns the step, the parameters and the statistics of a checkpoint.

  Args:
    experiment: that of the workdir.
    workdir: where the run trained.
    step: of the checkpoint; None means the newest good one.
    averaged: whether to take averaged weights if there are any.

  Raises:
    ArgumentError: the workdir holds no checkpoint, or a run of another config.
    scs_jax.workdir.CheckpointError: the checkpoint is damaged, absent or of another model.
  """
  path = folder(workdir)
  check_same_run(path, *experiment.identity)
  step, params, statistics = transfer.checkpoint(path, step, averaged=averaged)
  found, wanted = map(manifest.describe, ((params, statistics), experiment.weight_shapes))
  if difference := manifest.difference(found, wanted):
    raise CheckpointError(f'step {step} in {path} does not fit the model: {difference}')
  return step, params, statistics


def draw(experiment: Experiment, workdir: str | os.PathLike, step: int | None = None) -> epath.Path:
  """Draws the kernels of a checkpoint and their responses to one image of the evaluation set.

  Args:
    experiment: that of the workdir.
    workdir: where the run trained; its folder `pictures/` is written.
    step: of the checkpoint; None means the newest good one.

  Returns:
    The folder of the pictures.

  Raises:
    ArgumentError: as `load`, and if the model has no first layer with kernels.
  """
  model = trained(experiment, workdir, step)
  pictures_folder = folder(workdir) / 'pictures'
  image, name = experiment.example()
  draw_into(pictures_folder, model, image, name)
  return pictures_folder


def draw_into(pictures_folder: epath.Path, model: nnx.Module, image: np.ndarray, name: str) -> None:
  """Draws what `pictures.draw` draws; each picture appears as a whole.

  Args:
    pictures_folder: gets the pictures.
    model: in evaluation mode.
    image: `[height, width, channels]` float32, from 0 to 1.
    name: of its class.
  """
  with tempfile.TemporaryDirectory() as drafts:
    pictures.draw(model, image, epath.Path(drafts), name)
    pictures_folder.mkdir(parents=True, exist_ok=True)
    for draft in epath.Path(drafts).iterdir():
      write_whole(pictures_folder / draft.name, draft.read_bytes())
