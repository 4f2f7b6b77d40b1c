"""Breaks runs in many ways, and records what became of them.

python -m experiments.faults --workdir=DIR                 all tables
python -m experiments.faults --workdir=DIR --only=damage   one of them

It starts real processes on this machine; CPU devices stand in for the chips of a pod. `full_disks`
and `folders` mount small file systems, which only root may do.
"""

import json
import os
import pathlib
import shutil
import sys
import time
from typing import Any

from absl import flags as absl_flags

from experiments import flags
from experiments.faults import disks, pods
from experiments.faults.bad_inputs import COMMANDS, ENVIRONMENTS, missing, write_modules
from experiments.faults.runs import Path, start
from experiments.results import append, results_file

WORKDIR = flags.workdir()
RESULTS = flags.results()
KILLS = absl_flags.DEFINE_integer('kills', 100, 'How often a run is killed.')
DAMAGES = absl_flags.DEFINE_integer('damages', 1200, 'How often a file is damaged.')
DISKS = absl_flags.DEFINE_integer('disks', 36, 'How many full disks are tried.')


def bad_inputs(folder: Path) -> dict[str, Any]:
  """Every bad input in one process, and those that need one of their own: one line, and exit 1."""
  words = [sys.executable, '-m', 'experiments.faults.bad_inputs']
  found = json.loads(start(words, JAX_NUM_CPU_DEVICES='8').communicate()[0])
  wrong, seconds = found['not answered well'], []
  write_modules(folder)
  path = {'PYTHONPATH': os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')])}
  commands = {name: ({}, words, said) for name, (words, said) in COMMANDS.items()}
  for name, (environment, words, said) in {**commands, **ENVIRONMENTS}.items():
    typed = [word.replace('DIR', str(folder)) for word in words]
    begun = time.perf_counter()
    process = start([sys.executable, '-m', 'scs_jax.main', *typed], **path, **environment)
    answer = process.communicate(timeout=120)[0]
    seconds.append(time.perf_counter() - begun)
    problem = missing(answer.removeprefix('error: ').removesuffix('\n'), said)
    if problem or process.returncode != 1 or not answer.startswith('error: '):
      wrong[f'process: {name}'] = problem or f'exit {process.returncode}: {answer[-500:]}'
  return {
    'inputs': found['inputs'] + len(ENVIRONMENTS),
    'processes': len(seconds),
    'slowest process, seconds': round(max(seconds), 1),
    'not answered well': wrong,
  }


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
