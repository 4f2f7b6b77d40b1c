"""What happens in memory: a run, built, trained, evaluated and loaded."""

import os

from flax import nnx

from scs_jax.train.config import Config
from scs_jax.train.experiment import Experiment
from scs_jax.train.loop import run
from scs_jax.train.resources import NonFiniteError
from scs_jax.train.restore import check_config, draw_checkpoint, evaluate_checkpoint, load
from scs_jax.train.steps import State, as_float

__all__ = [
  'Experiment',
  'NonFiniteError',
  'State',
  'as_float',
  'draw_checkpoint',
  'evaluate_checkpoint',
  'load',
  'run',
  'train_and_evaluate',
  'trained_model',
]


def train_and_evaluate(config: Config, workdir: str | os.PathLike) -> dict[str, float]:
  """Trains as `config` says: `run(Experiment(config), workdir)`, the name of version 0.1.0."""
  return run(Experiment(config), workdir)


def trained_model(
  config: Config, workdir: str | os.PathLike, step: int | None = None
) -> nnx.Module:
  """Returns `load(workdir, step)` if it is a run of `config`: the name of version 0.1.0.

  Raises:
    ArgumentError: as `load`, and if the workdir holds a run of another config.
  """
  check_config(config, workdir)
  return load(workdir, step)
