"""Fine-tunes the shipped `mnist_1382` on the digits of scikit-learn.

python -m experiments.finetune

It makes the runs that results.jsonl lacks, and rewrites the table of README.md.
"""

import functools
import pathlib
from typing import Any

import jax.numpy as jnp

from experiments.finetune.digits import load
from experiments.results import add_missing, read, write_between
from scs_jax import pretrained, train
from scs_jax.train import Experiment, sharding
from scs_jax.train.config import from_dict

HERE = pathlib.Path(__file__).parent
NETWORK, STEPS, BATCH_SIZE, SEEDS = 'mnist_1382', 300, 32, (0, 1, 2)
LABELLED = (10, 50, None)  # images of each class; None: all that are not tested
# What differs from the config that trained the network. Nothing was tuned on these digits.
METHODS: dict[str, dict[str, Any]] = {
  'from scratch': {},
  'from scratch, lower rate': {'peak': 0.01},
  'whole network': {'init_from': NETWORK, 'peak': 0.003},
  'head only': {'init_from': NETWORK, 'freeze': ('scs_*', 'depthwise_*', 'pointwise_*')},
}


def main() -> None:
  path = HERE / 'results.jsonl'
  add_missing(path, {'method': 'not trained'}, untrained)
  for labelled in LABELLED:
    for seed in SEEDS:
      for method in METHODS:
        key = {'method': method, 'labelled': labelled, 'seed': seed}
        add_missing(path, key, functools.partial(outcome, **key))
  write_between(HERE / 'README.md', 'finetune', table(read(path)))


def experiment_of(method: str, labelled: int | None, seed: int) -> Experiment:
  """Returns the experiment of a method, with `labelled` training images of each class."""
  changes = dict(METHODS[method])
  config = from_dict(pretrained.card(NETWORK)['config'], NETWORK)
  config.optimizer.schedule.peak_learning_rate = changes.pop('peak', 0.03)
  training, testing = load(labelled, seed)
  epochs = STEPS * BATCH_SIZE / training.size
  config.update(seed=seed, batch_size=BATCH_SIZE, total_epochs=epochs, ema_decay=0.97, **changes)
  return Experiment(config, train=training, test=testing)


def outcome(method: str, labelled: int | None, seed: int) -> dict[str, Any]:
  """Trains, and returns the accuracy and the numbers of images."""
  experiment = experiment_of(method, labelled, seed)
  mesh = experiment.mesh()
  state, batches = experiment.first_state(mesh), experiment.train_batches()
  step = experiment.train_step(mesh)
  for _ in range(experiment.total_steps):
    state, _ = step(state, sharding.to_global(mesh, next(batches)))
  values = experiment.evaluation(mesh)(state.evaluated.params, state.evaluated.statistics)
  return {
    'accuracy': values['val/accuracy'],
    'images': experiment.train_set.size,
    'tested': experiment.eval_set.size,
  }


def untrained() -> dict[str, Any]:
  """Evaluates the network as it comes with the package."""
  _, testing = load(None, 0)
  images, labels = train.as_float(jnp.asarray(testing.images)), testing.labels
  logits = pretrained.load(NETWORK)(images)
  return {'accuracy': float((logits.argmax(-1) == labels).mean()), 'tested': testing.size}


def table(lines: list[dict[str, Any]]) -> str:
  """Returns the table of README.md."""
  at = lambda **key: [x['accuracy'] for x in lines if key.items() <= x.items()]
  columns = ['10 a class', '50 a class', 'all']
  rows = ['| | ' + ' | '.join(columns) + ' |', '|---|' + '---|' * len(columns)]
  for method in METHODS:
    cells = [_percents(at(method=method, labelled=labelled)) for labelled in LABELLED]
    rows.append(f'| {method} | ' + ' | '.join(cells) + ' |')
  (none,) = at(method='not trained')
  return '\n'.join([*rows, '', f'Without any training `{NETWORK}` has {100 * none:.1f} %.'])


def _percents(shares: list[float]) -> str:
  return ', '.join(f'{100 * share:.1f}' for share in shares)


if __name__ == '__main__':
  main()
