"""Makes the networks that come with the package, and evaluates them.

python -m experiments.pretrained                            evaluates every file on all test images
python -m experiments.pretrained --row=ROW --workdir=DIR    adds seed 0 of a row of `reproduce`

The second takes what `python -m experiments.reproduce --row=ROW --workdir=DIR` has trained. Both
write the cards and the table of README.md.
"""

import pathlib
from typing import Any

import tensorflow_datasets as tfds
from absl import flags as absl_flags

import scs_jax
from experiments import flags
from experiments.pretrained import cards
from experiments.reproduce.rows import ROWS, lines_of
from experiments.results import Trial, read, results_file, write_between
from scs_jax import pretrained
from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment
from scs_jax.train import config as configuration

ROW = absl_flags.DEFINE_enum('row', None, list(ROWS), 'The row whose first seed is added.')
WORKDIR = flags.workdir(required=False)
RESULTS = flags.results()
SEED = 0  # of the file: no accuracy has a say in the choice
README = pathlib.Path(__file__).parent / 'README.md'


def add(row: str, workdir: str) -> str:
  """Adds the network of a row to the package, or renews its card, and returns its name.

  Raises:
    ArgumentError: the run has no result yet, its weights do not have its accuracy, or the package
      has another network of that name.
  """
  trial = Trial(ROWS[row].config, SEED, ROWS[row].changes)
  lines = lines_of(ROWS[row], read(results_file(RESULTS.value, workdir)))
  if not lines or lines[0]['seed'] != SEED:
    raise ArgumentError(f'seed {SEED} of {row} has no result yet: run experiments.reproduce')
  experiment = Experiment(trial.load())
  data_name, parameters = experiment.config.data.name, lines[0]['parameters']
  name = f'{data_name}_{parameters}'
  model: Any = scs_jax.load(pathlib.Path(workdir, row, f'{SEED}'))
  model.class_names = tuple(tfds.builder(data_name).info.features['label'].names)
  found = cards.accuracy(model, experiment.eval_set)
  if abs(found - lines[0]['accuracy']) > 2 / experiment.eval_set.size:  # rounding moves a tie
    raise ArgumentError(f'{row}: these weights have {found}, the run had {lines[0]["accuracy"]}')
  draft = cards.path(name, '.draft')
  scs_jax.export.to_safetensors(model, draft)
  weights = cards.path(name, '.safetensors')
  if weights.exists() and weights.read_bytes() != draft.read_bytes():
    draft.unlink()
    raise ArgumentError(f'{weights} holds another network: remove it and its card first')
  draft.replace(weights)
  seeds = [line['accuracy'] for line in lines]
  config = experiment.identity[0]
  cards.write(name, cards.described(trial, lines[0], seeds, config, list(model.class_names)))
  return name


def evaluate(name: str) -> None:
  """Evaluates the file of a network, and writes what was measured to its card."""
  card = pretrained.card(name)
  config = configuration.from_dict(card['config'], f'the card of {name}')
  path = cards.path(name, '.safetensors')
  measured = cards.measured(name, scs_jax.load(path), Experiment(config).eval_set)
  before = card['accuracy']
  cards.write(name, {**card, **measured})
  found, images = measured['accuracy'], measured['images']
  print(f'{name}: {found:.4f} on {images:,} images, {before} in its card')


def main(_: list[str]) -> None:
  """Adds the network of `--row`, or evaluates all."""
  if ROW.value and not WORKDIR.value:
    raise ArgumentError('--row needs --workdir, where experiments.reproduce trained it')
  names = [add(ROW.value, WORKDIR.value)] if ROW.value else pretrained.names()
  for name in names:
    evaluate(name)
  write_between(README, 'pretrained', cards.table())


if __name__ == '__main__':
  flags.run(main)
