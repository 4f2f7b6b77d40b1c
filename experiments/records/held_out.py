"""Held-out training images choose a network; the result of a trial is measured on them."""

import pathlib
from typing import Any

from experiments.records.notation import recipe
from experiments.results import Trial, run
from scs_jax.errors import ArgumentError

HELD_OUT = 5000
SIZES = {'mnist': 60000, 'fashion_mnist': 60000, 'cifar10': 50000}  # training images


def splits(data: str) -> dict[str, str]:
  """Returns the changes of a config that hold out the last training images of a data set.

  Raises:
    ArgumentError: the data set is not one of `SIZES`.
  """
  if data not in SIZES:
    raise ArgumentError(f'the data set of the config must be one of {", ".join(SIZES)}, got {data}')
  kept = SIZES[data] - HELD_OUT
  return {'data.train_split': f'train[:{kept}]', 'data.eval_split': f'train[{kept}:]'}


def outcome(trial: Trial, folder: pathlib.Path) -> dict[str, Any]:
  """Trains a trial, and returns its result with the network and the recipe in words."""
  return {**recipe(trial.load()), **run(trial, folder)}
