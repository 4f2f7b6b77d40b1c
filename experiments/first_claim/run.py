"""Trains a config with several seeds, and writes what came out; the same command again goes on.

python experiments/first_claim/run.py --config=configs/mnist.py --seeds=0,1,2 --workdir=DIR
"""

import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
from importlib import metadata

from absl import app, flags

CONFIG = flags.DEFINE_string('config', 'configs/mnist.py', 'What to train.')
SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'One run for each.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each seed.', required=True)
HERE = pathlib.Path(__file__).parent


def train(seed: str) -> dict:
  """Trains or goes on, and returns the last evaluation and the speed."""
  workdir = pathlib.Path(WORKDIR.value) / f'seed_{seed}'
  command = [sys.executable, '-m', 'scs_jax.main', f'--config={CONFIG.value}']
  subprocess.run(
    [*command, f'--config.seed={seed}', f'--workdir={workdir}'], check=True, cwd=HERE.parent.parent
  )
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  evaluations = [row for row in rows if 'val/accuracy' in row]
  return {
    'seed': int(seed),
    'accuracy': evaluations[-1]['val/accuracy'],
    'images_per_second': statistics.median(
      e['train/images_per_second'] for e in evaluations if 'train/images_per_second' in e
    ),
    'steps': evaluations[-1]['step'],
  }


def main(_):
  runs = [train(seed) for seed in SEEDS.value]
  accuracies = [run['accuracy'] for run in runs]
  results = {
    'config': CONFIG.value,
    'median': statistics.median(accuracies),
    'mean': statistics.mean(accuracies),
    'standard_deviation': statistics.stdev(accuracies) if len(runs) > 1 else None,
    'runs': runs,
    'commit': subprocess.run(
      ['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, cwd=HERE
    ).stdout.strip(),
    'machine': f'{os.cpu_count()} cores of {platform.processor() or platform.machine()}',
    'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in ('jax', 'flax', 'optax', 'numpy')},
    },
  }
  (HERE / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
  for run in runs:
    print(f'seed {run["seed"]}: {run["accuracy"]:.4f}')
  print(f'median {results["median"]:.4f}, mean {results["mean"]:.4f}')
  pictures = pathlib.Path(WORKDIR.value) / f'seed_{SEEDS.value[0]}' / 'pictures'
  for name in ('kernels.png', 'feature_maps.png'):
    shutil.copy(pictures / name, HERE / name)


if __name__ == '__main__':
  app.run(main)
