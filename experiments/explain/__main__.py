"""Trains the networks, explains them by every method, and measures the explanations.

python -m experiments.explain --data=mnist --workdir=DIR
python -m experiments.explain --data=mnist --workdir=DIR --seeds=0 --picture
python -m experiments.explain --speed --workdir=DIR

Run the same command again to resume. With --picture it also draws one grid, and what every method
says about it. With --speed it times `scs_jax.explain` beside gradients instead.
"""

import os
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags

import scs_jax
from experiments import flags
from experiments.explain import measures, picture, speed
from experiments.explain.methods import methods
from experiments.results import Trial, add_missing, results_file, run
from scs_jax import data

DATA = absl_flags.DEFINE_multi_enum(
  'data', [], ['mnist', 'fashion_mnist', 'cifar10'], 'The data set; may be given more than once.'
)
PICTURE = absl_flags.DEFINE_bool('picture', False, 'Also draw a grid.')
SPEED = absl_flags.DEFINE_bool('speed', False, 'Time scs_jax.explain instead.')
SEEDS = flags.seeds('0-2')
WORKDIR = flags.workdir()
RESULTS = flags.results()

VARIANTS = ('scs', 'conv')
SIDES = (2, 3)
GRIDS = 40  # for each side
IMAGES = 500  # for deletion, insertion and completeness


def main(_: list[str]) -> None:
  os.environ.setdefault('JAX_NUM_CPU_DEVICES', '1')  # nothing is sharded
  results = results_file(RESULTS.value, WORKDIR.value)
  if SPEED.value:
    add_missing(results, {'measure': 'speed'}, speed.measure)
    return
  for name in DATA.value:
    for seed in SEEDS.value:
      for variant in VARIANTS:
        folder = pathlib.Path(WORKDIR.value, name, variant, str(seed))
        run_it = lambda a=name, b=variant, c=seed, d=folder: outcome(a, b, c, d)
        add_missing(results, {'data': name, 'variant': variant, 'seed': seed}, run_it)
      if PICTURE.value:
        folders = {v: pathlib.Path(WORKDIR.value, name, v, str(seed)) for v in VARIANTS}
        picture.draw(name, folders, pathlib.Path(WORKDIR.value, f'{name}.png'))


def outcome(name: str, variant: str, seed: int, folder: pathlib.Path) -> dict[str, Any]:
  """Returns the accuracy of a network and the measures of its explanations."""
  trained = run(Trial(f'experiments/explain/config.py:{name},{variant}', seed), folder)
  model = scs_jax.load(folder)
  network = jax.jit(lambda x: model(x))
  test = data.load(name, 'test')
  images = test.images.astype(np.float32) / 255
  sure = measures.probabilities(network, images)
  predicted = sure.argmax(1)
  of_label = sure[np.arange(test.size), test.labels]
  right = np.flatnonzero(predicted == test.labels)

  chosen = np.random.default_rng(seed).permutation(right)[:IMAGES]
  x, classes = images[chosen], predicted[chosen]
  explanation = scs_jax.explain(model, x)
  found: dict[str, Any] = {
    'accuracy': trained['accuracy'],
    'epochs': trained['epochs'],
    'parameters': trained['parameters'],
    'error': float(explanation.error.max()),
    'constant': float(np.abs(explanation.constant).mean()),
    'logit': float(explanation.logit.mean()),
    'cancellation': float(
      (np.abs(explanation.contributions).sum((1, 2, 3)) / np.abs(explanation.logit)).mean()
    ),
    'methods': {},
  }
  sets = {
    side: measures.grids(images[right], test.labels[right], of_label[right], side, GRIDS, seed)
    for side in SIDES
  }
  for label, method in methods(model).items():
    scores = {f'grid {s}': measures.grid_score(method, *sets[s], s) for s in SIDES}
    maps = np.asarray(method(x, classes))
    deleted, inserted = measures.curves(network, x, classes, maps)
    found['methods'][label] = {
      **scores,
      'sum': float((maps.sum((1, 2)) / np.asarray(explanation.logit)).mean()),
      'deletion': measures.area(deleted),
      'insertion': measures.area(inserted),
      'deleted': deleted,
      'inserted': inserted,
    }
    print(name, variant, seed, label, found['methods'][label], flush=True)
  random = np.random.default_rng(seed).random(x.shape[:3])
  deleted, inserted = measures.curves(network, x, classes, random)
  found['methods']['random order'] = {
    'deletion': measures.area(deleted),
    'insertion': measures.area(inserted),
    'deleted': deleted,
    'inserted': inserted,
  }
  return found


if __name__ == '__main__':
  flags.run(main)
