"""Trains the network of a row with the seeds it asks for; the same command again goes on.

python experiments/reproduce/run.py --row=mnist_smoke --workdir=DIR

Two processes may share a row of five seeds: --seeds=3 and --first_seed=3.
"""

import dataclasses
import functools
import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from rows import ROWS  # noqa: E402
from results import Trial, add_missing, results_file, run, seeds  # noqa: E402

ROW = flags.DEFINE_enum('row', None, list(ROWS), 'Which.', required=True)
SEEDS = flags.DEFINE_integer(
  'seeds', None, 'Seeds up to this one, exclusive; what the row asks for.'
)
FIRST = flags.DEFINE_integer('first_seed', 0, 'Where to begin.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)
ON_DEVICE = flags.DEFINE_boolean(
  'on_device', False, 'Makes all steps in one program, for a GPU: see on_device.py.'
)
RESULTS = flags.DEFINE_string(
  'results', None, 'Gets a line for each run; if not given, results.jsonl in --workdir does.'
)


def answer(row: str, trial: Trial, folder: pathlib.Path) -> dict:
  """Trains, and names the row that asked first; what was trained with flips is also mirrored to test it."""
  if ON_DEVICE.value:
    import on_device

    result = {'row': row, **on_device.run(trial, folder)}
  else:
    result = {'row': row, **run(trial, folder)}
  config = trial.load()
  if config.augment.flip:
    import mirrored  # after the run, which sets the devices

    from scs_jax import data, train

    model = train.trained_model(config, str(folder))
    examples = data.load(config.data.name, config.data.eval_split, data_dir=config.data.data_dir)
    result['mirrored_accuracy'] = mirrored.accuracy(model, examples)
  return result


def main(_):
  results = results_file(RESULTS.value, WORKDIR.value)
  name, row = ROW.value, ROWS[ROW.value]
  for seed in seeds(FIRST.value, row.seeds if SEEDS.value is None else SEEDS.value):
    trial = Trial(row.config, seed, row.changes)
    folder = pathlib.Path(WORKDIR.value, name, f'{seed}')
    # Without the row in the key: one run may answer several rows.
    add_missing(results, dataclasses.asdict(trial), functools.partial(answer, name, trial, folder))


if __name__ == '__main__':
  app.run(main)
