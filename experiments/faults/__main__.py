"""Breaks runs in nine ways, and records what became of them.

python -m experiments.faults --workdir=DIR                 all tables
python -m experiments.faults --workdir=DIR --only=damage   one of them

It starts real processes on this machine; CPU devices stand in for the chips of a pod. All tables
take about 25 minutes on two idle cores.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from experiments import flags
from experiments.faults.bad_inputs import CATALOGUE
from experiments.results import append, results_file
from scs_jax.workdir import CheckpointError, Checkpoints

ROOT = pathlib.Path(__file__).parent.parent.parent

WORKDIR = flags.workdir()
RESULTS = flags.results()
KILLS = absl_flags.DEFINE_integer('kills', 50, 'How often a run is killed.')

SMALL = (
  '--config=configs/quickstart.py',
  '--config.data.train_split=train[:1280]',
  '--config.data.eval_split=test[:100]',
  '--config.log_every_steps=1',
)

Process = subprocess.Popen[str]
Path = pathlib.Path


# -------------------------------------------------------------------------------------- Processes


def command(workdir: Path, *words: str) -> list[str]:
  """Returns the command that trains the small config in `workdir`."""
  return [sys.executable, '-m', 'scs_jax.main', *SMALL, f'--workdir={workdir}', *words]


def start(words: Sequence[str], **environment: str) -> Process:
  """Starts a process with these variables in its environment."""
  everything = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(pathlib.Path(WORKDIR.value, 'cache').absolute()),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    **environment,
  }
  pipes: dict[str, Any] = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
  return subprocess.Popen(words, env=everything, cwd=ROOT, **pipes)


def start_hosts(
  words: Sequence[str], count: int = 2, devices: int = 2, **environment: str
) -> list[Process]:
  """Starts `count` processes with `devices` devices each, like the hosts of a pod."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{s.getsockname()[1]}'
  shared = {
    'JAX_COORDINATOR_ADDRESS': address,
    'JAX_NUM_PROCESSES': str(count),
    'JAX_NUM_CPU_DEVICES': str(devices),
    **environment,
  }
  return [start(words, JAX_PROCESS_ID=str(i), **shared) for i in range(count)]


def finish(*processes: Process) -> list[str]:
  """Waits for processes, which must succeed, and returns what they printed."""
  outputs = [process.communicate(timeout=600)[0] for process in processes]
  codes = [process.returncode for process in processes]
  assert not any(codes), f'exit codes {codes}: {outputs}'
  return outputs


def losses(workdir: Path) -> dict[int, float]:
  """Returns the training loss by step."""
  rows = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return {row['step']: row['train/loss'] for row in rows if 'train/loss' in row}


def reached(workdir: Path) -> int:
  """Returns the last logged step of a run; 0 if it has none."""
  return max(losses(workdir), default=0) if (workdir / 'metrics.jsonl').exists() else 0


def wait_for_step(step: int, workdir: Path, processes: Sequence[Process]) -> None:
  """Waits until a run has made `step` steps; its processes must live until then."""
  while reached(workdir) < step:
    assert all(process.poll() is None for process in processes), finish(*processes)
    time.sleep(0.05)


def fingerprint(workdir: Path, devices: int = 2) -> str:
  """Returns the step of the newest checkpoint and a digest of its bits on so many devices."""
  words = [sys.executable, '-m', 'experiments.faults.restore', str(workdir)]
  (said,) = finish(start(words, JAX_NUM_CPU_DEVICES=str(devices)))
  return said.splitlines()[-1]


def error_of(process: Process) -> str:
  """Waits for a process and returns its error: a line, around which Orbax may print traces."""
  said = process.communicate(timeout=300)[0].strip()
  errors = [line for line in said.splitlines() if line.startswith('error:')]
  assert errors, said
  return errors[-1]


# ----------------------------------------------------------------------------------------- Tables


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


def kills(folder: Path) -> dict[str, Any]:
  """kill -9 at random moments, each followed by a restart; then the end is compared."""
  long = (
    '--config.total_epochs=40',
    '--config.save_every_epochs=1',
    '--config.eval_every_epochs=2',
  )
  finish(start(command(folder / 'undisturbed', *long)))
  rng, at, finished = random.Random(0), [], 0
  while len(at) < KILLS.value:
    process = start(command(folder / 'killed', *long))
    try:
      said = process.communicate(timeout=rng.uniform(1.0, 12.0))[0]
      assert process.returncode == 0, said
      finished += 1
      shutil.rmtree(folder / 'killed')  # start again, so that every kill hits a run
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      at.append(reached(folder / 'killed'))
  finish(start(command(folder / 'killed', *long)))
  same = fingerprint(folder / 'killed') == fingerprint(folder / 'undisturbed')
  return {
    'kills': KILLS.value,
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


def damage(folder: Path) -> dict[str, Any]:
  """Single bytes changed, files cut off, files deleted: anywhere in a checkpoint."""
  state = {'a': jax.random.normal(jax.random.key(0), (300, 40)), 'b': jnp.arange(7)}
  with Checkpoints(folder / 'run') as checkpoints:
    checkpoints.save(5, state, {'metrics': {'val/accuracy': 0.5}, 'iterator': {'step': 5}})
  files = sorted(path for path in (folder / 'run' / '5').rglob('*') if path.is_file())
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )

  def restore() -> None:
    with Checkpoints(folder / 'run', read_only=True) as checkpoints:
      restored = checkpoints.restore(wanted)
    assert restored is not None
    same = jax.tree.map(np.array_equal, restored.state, state)
    assert all(jax.tree.leaves(same)), 'a wrong state was restored without an error'

  def change(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]

  rng, result = random.Random(0), {}
  kinds = {
    'byte changed': (200, change),
    'cut off': (50, lambda data, rng: data[: rng.randrange(len(data))]),
    'deleted': (20, lambda data, rng: None),
  }
  for kind, (times, damaged) in kinds.items():
    detected = unharmed = 0
    for _ in range(times):
      path = rng.choice([path for path in files if path.stat().st_size])
      data = path.read_bytes()
      new = damaged(data, rng)
      path.unlink()
      if new is not None:
        path.write_bytes(new)
      try:
        restore()
        unharmed += 1
      except CheckpointError:
        detected += 1
      path.write_bytes(data)
    result[kind] = {'detected': detected, 'restored right': unharmed, 'of': times}
  return result


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


def folders(folder: Path) -> dict[str, Any]:
  """Disk full, a read-only folder, a folder that is deleted."""
  result = {}
  small = folder / 'small'
  small.mkdir()
  if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=500k', 'tmpfs', small]).returncode:
    result['disk full'] = result['read-only'] = 'skipped: this machine refuses to mount'
  else:
    try:
      for policy in ('stop', 'continue'):
        words = ('--config.total_epochs=3', '--config.save_every_epochs=1')
        process = start(command(small / policy, *words, f'--config.on_save_error={policy}'))
        said = error_of(process)
        result[f'disk full, {policy}'] = f'exit {process.returncode}: {said}'
        assert process.returncode, said
        assert 'No space left' in said, said
        shutil.rmtree(small / policy)
      subprocess.run(['mount', '-o', 'remount,ro', small], check=True)
      process = start(command(small / 'run'))
      said = error_of(process)
      result['read-only'] = f'exit {process.returncode}: {said}'
      assert process.returncode, said
      assert 'cannot be written' in said, said
    finally:
      subprocess.run(['umount', small], check=True)
  gone = folder / 'gone'
  process = start(command(gone))
  wait_for_step(1, gone, [process])
  shutil.rmtree(gone, ignore_errors=True)
  said = error_of(process)
  result['deleted while running'] = f'exit {process.returncode}: {said}'
  assert process.returncode, said
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
  table.__name__: table
  for table in (
    processes,
    kills,
    signals,
    hosts,
    damage,
    devices,
    folders,
    sharded_bytes,
    bad_inputs,
  )
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
