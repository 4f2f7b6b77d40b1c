"""Trains a config with several seeds, and writes what came out; the same command again goes on.

python experiments/first_claim/run.py --config=configs/mnist.py --seeds=0,1,2 --workdir=DIR
"""

import json
import pathlib
import shutil
import statistics
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from results import Trial, run  # noqa: E402

CONFIG = flags.DEFINE_string('config', 'configs/mnist.py', 'What to train.')
SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'One run for each.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each seed.', required=True)


def main(_):
  folders = [pathlib.Path(WORKDIR.value) / f'seed_{seed}' for seed in SEEDS.value]
  runs = [
    run(Trial(CONFIG.value, int(seed)), folder)
    for seed, folder in zip(SEEDS.value, folders, strict=True)
  ]
  accuracies = [result['accuracy'] for result in runs]
  results = {
    'config': CONFIG.value,
    'median': statistics.median(accuracies),
    'mean': statistics.mean(accuracies),
    'standard_deviation': statistics.stdev(accuracies) if len(runs) > 1 else None,
    'runs': runs,
  }
  (HERE / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
  for result in runs:
    print(f'seed {result["seed"]}: {result["accuracy"]:.4f}')
  print(f'median {results["median"]:.4f}, mean {results["mean"]:.4f}')
  for name in ('kernels.png', 'feature_maps.png'):
    shutil.copy(folders[0] / 'pictures' / name, HERE / name)


if __name__ == '__main__':
  app.run(main)
