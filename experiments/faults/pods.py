"""Faults of processes and machines: killed, stopped, hung, resumed on other devices."""

import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from experiments.faults.runs import (
  Path,
  command,
  fingerprint,
  finish,
  losses,
  reached,
  start,
  start_hosts,
  wait_for_step,
)


def processes(folder: Path) -> dict[str, Any]:
  """Two processes of two devices, and four of one, against one of four: ten and fifty steps."""
  result = {}
  for name, steps, bound in (('float32', 10, 1e-5), ('float64', 50, 1e-9)):
    words = [f'--config.total_epochs={steps * 64 / 1280}']
    environment = {}
    if name == 'float64':
      words += ['--config.model.dtype=float64', '--config.model.param_dtype=float64']
      environment = {'JAX_ENABLE_X64': '1'}
    one = folder / f'{name}_1'
    finish(start(command(one, *words), JAX_NUM_CPU_DEVICES='4', **environment))
    for hosts in (2, 4):
      many = folder / f'{name}_{hosts}'
      finish(*start_hosts(command(many, *words), hosts, 4 // hosts, **environment))
      found, expected = (list(losses(run).values()) for run in (many, one))
      assert len(found) == len(expected) == steps
      difference = float(np.abs(np.subtract(found, expected)).max())
      result[f'{name}, {steps} steps, {hosts} processes, largest difference'] = difference
      assert difference <= bound, difference
  return result


def kills(folder: Path, times: int) -> dict[str, Any]:
  """kill -9 at random moments, each followed by a restart; then the end is compared.

  Every second moment is counted from the first new step, the others from the start of the process,
  so that start, restore, training and saving are all hit, on a busy machine too.
  """
  long = (
    '--config.total_epochs=40',
    '--config.save_every_epochs=1',
    '--config.eval_every_epochs=2',
  )
  finish(start(command(folder / 'undisturbed', *long)))
  run, rng, at, finished = folder / 'killed', random.Random(0), [], 0
  while len(at) < times:
    before, process = reached(run), start(command(run, *long))
    seconds = rng.uniform(1.0, 12.0)
    if len(at) % 2:
      seconds = rng.uniform(0.0, 3.0)
      while reached(run) <= before and process.poll() is None:
        time.sleep(0.02)
    try:
      said = process.communicate(timeout=seconds)[0]
      assert process.returncode == 0, said
      finished += 1
      shutil.rmtree(run)  # start again, so that every kill hits a run
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      at.append(reached(run))
  finish(start(command(run, *long)))
  same = fingerprint(run) == fingerprint(folder / 'undisturbed')
  assert same, 'the final states differ'
  return {
    'kills': times,
    'ends reached on the way': finished,
    'steps at the kills': at,
    'final state bit-identical': same,
  }


def signals(folder: Path) -> dict[str, Any]:
  """SIGTERM to one of two processes: both save the same step and exit 0, and resume."""
  run, length = folder / 'run', '--config.total_epochs=20'
  pair = start_hosts(command(run, length))
  wait_for_step(30, run, pair)
  pair[1].send_signal(signal.SIGTERM)
  outputs = finish(*pair)
  saved = sorted(int(p.name) for p in (run / 'checkpoints').iterdir() if p.name.isdecimal())
  stopped = next(line for line in outputs[0].splitlines() if line.startswith('stopped by'))
  assert f'after step {saved[-1]};' in stopped, (stopped, saved)
  finish(*start_hosts(command(run, length)))
  return {'said': stopped, 'resumed to step': reached(run)}


def hosts(folder: Path) -> dict[str, Any]:
  """One of two hosts hangs, and later dies: the other reports it; no step is lost or doubled."""
  run = folder / 'run'
  words = ('--config.total_epochs=20', '--config.save_every_epochs=1', '--config.stall_seconds=5')
  finish(*start_hosts(command(folder / 'undisturbed', *words)))
  pair = start_hosts(command(run, *words))
  wait_for_step(50, run, pair)
  pair[1].send_signal(signal.SIGSTOP)
  time.sleep(15)
  pair[1].send_signal(signal.SIGCONT)
  hung_at = reached(run)
  wait_for_step(hung_at + 50, run, pair)
  pair[1].kill()
  begun = time.perf_counter()
  said = pair[0].communicate(timeout=600)[0]
  seconds = time.perf_counter() - begun
  (folder / 'left.log').write_text(said)
  stalls = [line.partition(';')[0] for line in said.splitlines() if 'no progress for' in line]
  stalls = [
    line for line in stalls if line.endswith((f'step {hung_at + 1}', f'step {hung_at + 2}'))
  ]
  assert stalls, f'nothing was reported between steps {hung_at} and {hung_at + 2}: {said}'
  assert pair[0].returncode, 'the remaining host continued alone'
  finish(*start_hosts(command(run, *words)))
  same = fingerprint(run) == fingerprint(folder / 'undisturbed')
  assert same, 'the final states differ'
  return {
    'said while the other hung': stalls[0],
    'exit code of the host that was left': pair[0].returncode,
    'seconds until it ended': round(seconds),
    'its last words': next(
      line[line.index('Terminating') :].partition(' This')[0]
      for line in said.splitlines()
      if 'Terminating process' in line
    ),
    'final state bit-identical': same,
  }


def devices(folder: Path) -> dict[str, Any]:
  """A run that resumes on 8, 4, 2, 1 and 8 devices, stopped by SIGTERM in between."""
  result = {}
  for layout, fsdp in (('data', 1), ('fsdp', -1)):
    run, step, before = folder / layout, 0, ''
    words = (
      '--config.total_epochs=30',
      f'--config.mesh.data={-fsdp}',
      f'--config.mesh.fsdp={fsdp}',
    )
    for count in (8, 4, 2, 1, 8):
      if step:
        assert fingerprint(run, count) == before
        result[f'{layout}, step {step} restored on {count}'] = 'bit-identical'
      process = start(command(run, *words), JAX_NUM_CPU_DEVICES=str(count))
      while process.poll() is None:
        if reached(run) > step + 40:
          process.send_signal(signal.SIGTERM)
          break
        time.sleep(0.02)
      finish(process)
      step, before = reached(run), fingerprint(run, count)
    result[f'{layout}, loss at steps 1 and {step}'] = [losses(run)[1], losses(run)[step]]
  return result


SHARDED = """
import jax
jax.config.update('jax_num_cpu_devices', 8)
from scs_jax.train import Experiment
from scs_jax.train.config import default
config = default('resnet')
config.data.name = 'fake'  # images as large as CIFAR-10's
config.mesh.update(data=1, fsdp=8)
config.optimizer.schedule.name = 'constant'
config.optimizer.cycle_momentum_to = None
experiment = Experiment(config)
state = experiment.first_state(experiment.mesh())
leaves = [leaf for leaf in jax.tree.leaves(state) if not leaf.is_fully_replicated]
whole = sum(leaf.nbytes for leaf in leaves)
held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
everything = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
print(held / whole, whole / everything)
"""


def sharded_bytes(folder: Path) -> dict[str, Any]:
  """The share of ResNet-18's parameters and optimizer state on one of eight devices, by fsdp."""
  del folder
  (said,) = finish(start([sys.executable, '-c', SHARDED]))
  held, share = map(float, said.split()[-2:])
  assert held <= 1.05 / 8
  return {'share of the sharded layers on one device': held, 'share of the state in them': share}
