"""Evaluates a checkpoint."""

import os

import jax

from scs_jax.train import agreement, sharding
from scs_jax.train.experiment import Experiment
from scs_jax.train.restore import weights


def evaluate(
  experiment: Experiment,
  workdir: str | os.PathLike,
  step: int | None = None,
  *,
  averaged: bool = True,
) -> dict[str, float]:
  """Evaluates a checkpoint of a workdir, and changes nothing on disk.

  Args:
    experiment: that of the workdir.
    workdir: where the run trained.
    step: of the checkpoint; None means the newest good one.
    averaged: False evaluates the parameters of the last step, even if the run averages them.

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
  return {'step': step, **experiment.evaluation(mesh)(*held)}
