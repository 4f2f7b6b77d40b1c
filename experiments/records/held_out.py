"""Which training images choose a network: those that it is not trained on. What is logged of a trial."""

import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent)]

from notation import recipe  # noqa: E402
from results import Trial, run  # noqa: E402

HELD_OUT = 5000
SIZES = {'mnist': 60000, 'fashion_mnist': 60000, 'cifar10': 50000}


def splits(data: str) -> dict[str, str]:
  """Returns the changes of a config that hold the last training images of a data set out.

  Raises:
    ValueError: for a data set that is not one of `SIZES`.
  """
  if data not in SIZES:
    raise ValueError(f'the config is about {data}, not {", ".join(SIZES)}')
  kept = SIZES[data] - HELD_OUT
  return {'data.train_split': f'train[:{kept}]', 'data.eval_split': f'train[{kept}:]'}


def outcome(trial: Trial, folder: pathlib.Path) -> dict:
  """Trains and returns the result, with what was trained in words."""
  return {**recipe(trial.load()), **run(trial, folder)}
