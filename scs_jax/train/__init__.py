"""What happens in memory: a run, built, trained, evaluated and loaded."""

import os

from flax import nnx

from scs_jax.train import config, keys
from scs_jax.train.config import Config
from scs_jax.train.evaluate import evaluate
from scs_jax.train.experiment import Experiment
from scs_jax.train.explain import draw_explanations
from scs_jax.train.loop import run
from scs_jax.train.resources import NonFiniteError
from scs_jax.train.restore import draw, load, trained
from scs_jax.train.steps import State, as_float

__all__ = [
  'Experiment',
  'NonFiniteError',
  'State',
  'as_float',
  'config',
  'draw',
  'draw_explanations',
  'evaluate',
  'evaluate_checkpoint',
  'keys',
  'load',
  'run',
  'train_and_evaluate',
  'trained_model',
]

# The names of version 0.1.0, which took a config instead of an experiment.


def train_and_evaluate(config: Config, workdir: str | os.PathLike) -> dict[str, float]:
  """Returns `run(Experiment(config), workdir)`."""
  return run(Experiment(config), workdir)


def evaluate_checkpoint(
  config: Config, workdir: str | os.PathLike, step: int | None = None, *, averaged: bool = True
) -> dict[str, float]:
  """Returns `evaluate(Experiment(config), workdir, step, averaged=averaged)`."""
  return evaluate(Experiment(config), workdir, step, averaged=averaged)


def trained_model(
  config: Config, workdir: str | os.PathLike, step: int | None = None
) -> nnx.Module:
  """Returns `load(workdir, step)`, and raises ArgumentError if it is a run of another config."""
  return trained(Experiment(config), workdir, step)
