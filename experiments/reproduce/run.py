"""Trains the network of a row with the seeds it asks for; the same command again goes on.

python experiments/reproduce/run.py --row=mnist_smoke --workdir=DIR
"""

import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from rows import ROWS  # noqa: E402
from trials import Trial, append, read, run  # noqa: E402

ROW = flags.DEFINE_multi_enum('row', None, list(ROWS), 'Which; may be given again.', required=True)
SEEDS = flags.DEFINE_integer('seeds', None, 'Seeds 0 … n - 1; what the row asks for.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)
RESULTS = flags.DEFINE_string('results', str(HERE / 'results.jsonl'), 'Gets a line for each run.')


def main(_):
  results = pathlib.Path(RESULTS.value)
  for name in ROW.value:
    row = ROWS[name]
    for seed in range(SEEDS.value or row.seeds):
      trial = Trial(row.config, seed, row.changes)
      if any(same(line, name, trial) for line in read(results)):
        print(f'{name}, seed {seed}: done before', flush=True)
        continue
      append(results, {'row': name, **run(trial, pathlib.Path(WORKDIR.value, name, f'{seed}'))})


def same(line: dict, name: str, trial: Trial) -> bool:
  """Whether `line` is the result of this trial, as the row stands now."""
  ours = (name, trial.config, trial.seed, dict(trial.changes))
  return (line['row'], line['config'], line['seed'], line['changes']) == ours


if __name__ == '__main__':
  app.run(main)
