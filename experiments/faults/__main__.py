"""Breaks runs in many ways, and records what became of them.

python -m experiments.faults --workdir=DIR                 all tables
python -m experiments.faults --workdir=DIR --only=damage   one of them

It starts real processes on this machine; CPU devices stand in for the chips of a pod. `full_disks`
and `folders` mount small file systems, which only root may do.
"""

import json
import pathlib
import shutil
import sys
import time
from typing import Any

from absl import flags as absl_flags

from experiments import flags
from experiments.faults import disks, pods
from experiments.faults.bad_inputs import CATALOGUE
from experiments.faults.runs import Path, start
from experiments.results import append, results_file

WORKDIR = flags.workdir()
RESULTS = flags.results()
KILLS = absl_flags.DEFINE_integer('kills', 100, 'How often a run is killed.')
DAMAGES = absl_flags.DEFINE_integer('damages', 1200, 'How often a file is damaged.')
DISKS = absl_flags.DEFINE_integer('disks', 36, 'How many full disks are tried.')


def bad_inputs(folder: Path) -> dict[str, Any]:
  """The catalogue: a line that names the input answers each, with an exit code."""
  failures = {}
  for name, (words, expected) in CATALOGUE.items():
    typed = not isinstance(words, str)
    arguments = ['-m', 'scs_jax.main', *words] if typed else ['-c', words]
    arguments = [word.replace('DIR', str(folder / 'bad')) for word in arguments]
    process = start([sys.executable, *arguments])
    said = process.communicate(timeout=120)[0]
    last = said.strip().splitlines()[-1] if said.strip() else ''
    answered = process.returncode and all(word in last for word in expected)
    if not answered or (typed and 'Traceback' in said):
      failures[name] = said[-500:]
  return {'inputs': len(CATALOGUE), 'not answered well': failures}


TABLES = {
  'processes': pods.processes,
  'kills': lambda folder: pods.kills(folder, KILLS.value),
  'signals': pods.signals,
  'hosts': pods.hosts,
  'devices': pods.devices,
  'sharded_bytes': pods.sharded_bytes,
  'damage': lambda folder: disks.damage(folder, DAMAGES.value),
  'full_disks': lambda folder: disks.full_disks(folder, DISKS.value),
  'folders': disks.folders,
  'bad_inputs': bad_inputs,
}
ONLY = absl_flags.DEFINE_enum('only', None, list(TABLES), 'The name of one table.')


def main(_: list[str]) -> None:
  results = results_file(RESULTS.value, WORKDIR.value).absolute()
  for name in [ONLY.value] if ONLY.value else TABLES:
    folder = pathlib.Path(WORKDIR.value, name).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    result = TABLES[name](folder)
    result = json.loads(json.dumps(result).replace(str(folder), 'DIR'))
    result['seconds'] = round(time.perf_counter() - begun)
    print(f'{name}: {json.dumps(result, indent=1)}', flush=True)
    append(results, {'table': name}, result)


if __name__ == '__main__':
  flags.run(main)
