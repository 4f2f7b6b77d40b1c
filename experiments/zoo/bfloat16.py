"""Trains every architecture a hundred steps in bfloat16: are loss and gradients finite?

python -m experiments.zoo.bfloat16 --workdir=DIR [--network=cct2]

Real CIFAR-10 images, batches of 16, otherwise as the config says. Every step is logged, and a run
stops at the first loss or gradient that is not finite.
"""

import json
import pathlib
import tempfile
from typing import Any

from absl import flags as absl_flags

from experiments import flags
from experiments.results import Trial, append, results_file
from experiments.zoo.table import NETWORKS
from scs_jax import train

NETWORK = absl_flags.DEFINE_multi_enum('network', NETWORKS, NETWORKS, 'Which; may be repeated.')
WORKDIR = flags.workdir()
RESULTS = flags.results()
STEPS, BATCH = 100, 16


def course(network: str) -> dict[str, Any]:
  """Returns the losses and gradient norms of a run, or why it stopped."""
  changes = {
    'model.dtype': 'bfloat16',
    'batch_size': BATCH,
    'data.train_split': f'train[:{STEPS * BATCH}]',
    'data.eval_split': 'test[:500]',
    'total_epochs': 1.0,
    'log_every_steps': 1,
  }
  config = Trial(f'configs/cifar10.py:{network}', 0, changes).load()
  with tempfile.TemporaryDirectory() as folder:
    try:
      train.run(train.Experiment(config), folder)
    except train.NonFiniteError as error:
      return {'error': str(error)}
    text = pathlib.Path(folder, 'metrics.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  logged = [row for row in rows if 'train/loss' in row]
  values = {key: [row[f'train/{key}'] for row in logged] for key in ('loss', 'gradient_norm')}
  return {'steps': len(logged), **values}


def main(_: list[str]) -> None:
  """Adds a line for each network, even if there is one: the newest counts."""
  results = results_file(RESULTS.value, WORKDIR.value, 'bfloat16.jsonl')
  for network in NETWORK.value:
    append(results, {'network': network}, course(network))
    print(network, 'done', flush=True)


if __name__ == '__main__':
  flags.run(main)
