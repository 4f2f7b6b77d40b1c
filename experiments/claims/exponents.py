"""Follows p through training, from several beginnings; the same command again goes on.

python experiments/claims/exponents.py --data=fashion_mnist --workdir=DIR

The base network of run.py, with a checkpoint every quarter of an epoch, from which p is read. Writes
exponents.json and exponents_DATA.png, and a table in README.md.
"""

import json
import pathlib
import sys

import matplotlib
import numpy as np
from absl import app, flags

matplotlib.use('Agg')
from matplotlib import pyplot as plt

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from net import ClaimNet  # noqa: E402
from results import Trial, origin, run, write_between  # noqa: E402
from variants import SETS, changes  # noqa: E402

from scs_jax import models  # noqa: E402

DATA = flags.DEFINE_enum(
  'data', 'fashion_mnist', [data for data, details in SETS.items() if details], 'Which.'
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)

BEGINNINGS = (1.0, 2.0, 3.0, 5.0)
EVERY = 0.25  # epochs


def course(p_init: float) -> dict:
  """Trains, and returns p of every kernel of every layer at each checkpoint."""
  flat = {
    **changes(DATA.value, 'SCS', {'p_init': p_init}),
    'save_every_epochs': EVERY,
    'keep_latest': 1000,
  }
  trial = Trial(f'experiments/claims/config.py:{DATA.value}', 0, flat)
  folder = pathlib.Path(WORKDIR.value, f'p_{DATA.value}_{p_init}')
  result = run(trial, folder)

  from scs_jax import train

  steps = sorted(int(p.name) for p in (folder / 'checkpoints').iterdir() if p.name.isdecimal())
  levels = []
  for step in steps:
    model = train.trained_model(trial.load(), str(folder), step)
    levels.append([np.asarray(level.p).tolist() for level in model.levels if hasattr(level, 'p')])
  return {'steps': steps, 'p': levels, 'accuracy': result['accuracy']}


def main(_):
  models.MODELS['claim_net'] = ClaimNet
  courses = {str(p_init): course(p_init) for p_init in BEGINNINGS}
  path = HERE / 'exponents.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  results[DATA.value] = {'courses': courses, **origin()}
  path.write_text(json.dumps(results) + '\n')
  layers = range(len(next(iter(courses.values()))['p'][0]))
  rows = [
    f'| {DATA.value}: p begins at | accuracy | '
    + ' | '.join(f'layer {i + 1} ends at' for i in layers)
    + ' |',
    '|---|---|' + '---|' * len(layers),
  ]
  for begin, found in courses.items():
    ends = [
      f'{np.median(p):.2f} ({min(p):.2f} … {max(p):.2f})' for p in found['p'][-1]
    ]  # of the kernels of a layer
    rows.append(f'| {begin} | {found["accuracy"]:.2%} | {" | ".join(ends)} |')
  print('\n'.join(rows))
  write_between(HERE / 'README.md', f'exponents of {DATA.value}', '\n'.join(rows))
  draw(courses, layers)


def draw(courses: dict, layers: range) -> None:
  """A panel for each layer; thin lines are kernels, thick ones their median."""
  figure, axes = plt.subplots(
    1, len(layers), figsize=(2.6 * len(layers), 2.8), sharey=True, layout='constrained'
  )
  for i, axis in enumerate(axes):
    for n, (begin, found) in enumerate(courses.items()):
      steps = [0, *found['steps']]
      p = np.array([[float(begin)] * len(found['p'][0][i])] + [level[i] for level in found['p']])
      axis.plot(steps, p, color=f'C{n}', linewidth=0.4)
      axis.plot(steps, np.median(p, 1), color=f'C{n}', linewidth=2, label=f'from {begin}')
    axis.set(title=f'layer {i + 1}', xlabel='steps')
  axes[0].set_ylabel('p')
  handles, labels = axes[-1].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside right center', frameon=False)
  figure.savefig(HERE / f'exponents_{DATA.value}.png', dpi=150)


if __name__ == '__main__':
  app.run(main)
