"""Evaluates a checkpoint."""

import os

import jax

from scs_jax.train import agreement, sharding
from scs_jax.train.experiment import Experiment
from scs_jax.train.predictions import Predictions
from scs_jax.train.restore import weights
from scs_jax.workdir import folder


def evaluate(
  experiment: Experiment,
  workdir: str | os.PathLike,
  step: int | None = None,
  *,
  averaged: bool = True,
  write_predictions: bool = False,
) -> dict[str, float]:
  """Evaluates a checkpoint of a workdir.

  Args:
    experiment: that of the workdir.
    workdir: where the run trained.
    step: of the checkpoint; None means the newest good one.
    averaged: False evaluates the parameters of the last step, even if the run averages them.
    write_predictions: whether to write `predictions.npz` into the workdir, if the model classifies:
      `logits` `[examples, classes]`, `labels` and `index` `[examples]`, `class_names` and `step`.
      Otherwise nothing on disk changes.

  Returns:
    'step' and the metrics that `scs_jax.train.run` returns.

  Raises:
    ArgumentError: the workdir holds no checkpoint, or a run of another config.
    scs_jax.workdir.CheckpointError: the checkpoint is damaged or absent, or none is intact.
  """
  agreement.check_hosts(experiment, workdir, 'eval')
  mesh = experiment.mesh()
  step, *held = weights(experiment, workdir, step, averaged=averaged)
  held = jax.device_put(held, sharding.state_shardings(mesh, held))
  found = (
    Predictions() if write_predictions and experiment.config.objective == 'classification' else None
  )
  values = experiment.evaluation(mesh, None if found is None else found.add)(*held)
  if found is not None:
    problem = found.write(folder(workdir), step, experiment.class_names)
    if problem:
      print(problem)
  return {'step': step, **values}
