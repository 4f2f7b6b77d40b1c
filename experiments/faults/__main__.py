"""Breaks runs in every way we could think of, and prints what became of them.

python experiments/faults/run.py --workdir=DIR                 every table, writes results.json
python experiments/faults/run.py --workdir=DIR --only=damage   one of them

Real processes on this machine; CPU devices stand in for a pod's chips. About twenty minutes.
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

import numpy as np
from absl import app, flags

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from bad_inputs import CATALOGUE  # noqa: E402

WORKDIR = flags.DEFINE_string('workdir', None, 'Gets the runs that are broken.', required=True)
ONLY = flags.DEFINE_string('only', None, 'The name of one table.')
KILLS = flags.DEFINE_integer('kills', 50, 'How often a run is killed.')

SMALL = (
  '--config=configs/quickstart.py', '--config.data.train_split=train[:1280]',
  '--config.data.eval_split=test[:100]', '--config.log_every_steps=1',
)  # fmt: skip


def command(workdir, *words: str) -> list[str]:
  return [sys.executable, '-m', 'scs_jax.main', *SMALL, f'--workdir={workdir}', *words]


def environment(**more: str) -> dict[str, str]:
  return {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(pathlib.Path(WORKDIR.value, 'cache')),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    **more,
  }


def start(words, **more) -> subprocess.Popen:
  return subprocess.Popen(
    words, env=environment(**more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    text=True,
  )  # fmt: skip


def start_hosts(words, count: int = 2, devices: int = 2) -> list[subprocess.Popen]:
  """So many processes with so many devices each, as the hosts of a pod."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{s.getsockname()[1]}'
  return [
    start(
      words, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES=str(count), JAX_PROCESS_ID=str(i),
      JAX_NUM_CPU_DEVICES=str(devices),
    )
    for i in range(count)
  ]  # fmt: skip


def finish(*processes: subprocess.Popen) -> list[str]:
  outputs = [process.communicate(timeout=600)[0] for process in processes]
  codes = [process.returncode for process in processes]
  assert not any(codes), f'exit codes {codes}: {outputs}'
  return outputs


def losses(workdir) -> dict[int, float]:
  rows = map(json.loads, pathlib.Path(workdir, 'metrics.jsonl').read_text().splitlines())
  return {row['step']: row['train/loss'] for row in rows if 'train/loss' in row}


def fingerprint(workdir, fsdp: int = 1, devices: int = 2) -> str:
  """The step of the newest checkpoint and a digest of what so many devices hold of it."""
  program = [sys.executable, str(HERE / 'restore.py'), str(workdir), str(fsdp)]
  (said,) = finish(start(program, JAX_NUM_CPU_DEVICES=str(devices)))
  return said.splitlines()[-1]


# In double precision: a config has no key for the kernels' dtype.
DOUBLE = """
import os, runpy, sys
import jax
jax.config.update('jax_enable_x64', True)
if 'JAX_COORDINATOR_ADDRESS' in os.environ:
  address, count, index = (os.environ['JAX_' + name] for name in
                           ('COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID'))
  jax.distributed.initialize(address, int(count), int(index))
from scs_jax import train
config = runpy.run_path('configs/quickstart.py')['get_config']()
config.unlock()
config.data.train_split, config.data.eval_split = 'train[:1280]', 'test[:100]'
config.total_epochs, config.log_every_steps = float(sys.argv[2]), 1
config.model.dtype = config.model.param_dtype = 'float64'
train.train_and_evaluate(config, sys.argv[1])
"""


def processes(folder) -> dict:
  """Two processes of two devices, and four of one, against one of four: ten and fifty steps."""
  result = {}
  for name, steps, bound in (('float32', 10, 1e-5), ('float64', 50, 1e-9)):
    epochs = steps * 64 / 1280

    def words(run, name=name, epochs=epochs):
      if name == 'float64':
        return [sys.executable, '-c', DOUBLE, str(folder / run), str(epochs)]
      return command(folder / run, f'--config.total_epochs={epochs}')

    finish(start(words(f'{name}_1'), JAX_NUM_CPU_DEVICES='4'))
    for hosts in (2, 4):
      finish(*start_hosts(words(f'{name}_{hosts}'), hosts, 4 // hosts))
      many, one = (list(losses(folder / f'{name}_{n}').values()) for n in (hosts, 1))
      assert len(many) == len(one) == steps
      difference = float(np.abs(np.subtract(many, one)).max())
      result[f'{name}, {steps} steps, {hosts} processes, largest difference'] = difference
      assert difference <= bound, difference
  return result


def kills(folder) -> dict:
  """kill -9 at random moments, each followed by a restart; then the end is compared."""
  long = (
    '--config.total_epochs=40',
    '--config.save_every_epochs=1',
    '--config.eval_every_epochs=2',
  )
  finish(start(command(folder / 'undisturbed', *long)))
  rng, reached, finished = random.Random(0), [], 0
  while len(reached) < KILLS.value:
    process = start(command(folder / 'killed', *long))
    try:
      process.wait(rng.uniform(1.0, 12.0))
      assert process.returncode == 0, process.stdout.read()
      finished += 1
      shutil.rmtree(folder / 'killed')  # begun again, so that every kill hits a run
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      path = folder / 'killed' / 'metrics.jsonl'
      reached.append(max(losses(folder / 'killed'), default=0) if path.exists() else 0)
  finish(start(command(folder / 'killed', *long)))
  same = fingerprint(folder / 'killed') == fingerprint(folder / 'undisturbed')
  return {
    'kills': KILLS.value, 'ends reached on the way': finished,
    'steps at the kills': reached, 'final state bit-identical': same,
  }  # fmt: skip


def wait_for_step(step: int, workdir, processes) -> None:
  path = workdir / 'metrics.jsonl'
  while not (path.exists() and max(losses(workdir), default=0) >= step):
    assert all(process.poll() is None for process in processes), finish(*processes)
    time.sleep(0.05)


def signals(folder) -> dict:
  """SIGTERM to one of two processes: both save the same step and exit 0, and resume."""
  length = '--config.total_epochs=20'
  pair = start_hosts(command(folder / 'run', length))
  wait_for_step(30, folder / 'run', pair)
  pair[1].send_signal(signal.SIGTERM)
  outputs = finish(*pair)
  saved = sorted(
    int(p.name) for p in (folder / 'run' / 'checkpoints').iterdir() if p.name.isdecimal()
  )
  stopped = next(line for line in outputs[0].splitlines() if line.startswith('stopped by'))
  assert f'after step {saved[-1]};' in stopped, (stopped, saved)
  finish(*start_hosts(command(folder / 'run', length)))
  return {'said': stopped, 'resumed to step': max(losses(folder / 'run'))}


def hosts(folder) -> dict:
  """One of two hosts hangs, and later dies: the other says so; no step is lost or doubled."""
  words = ('--config.total_epochs=20', '--config.save_every_epochs=1', '--config.stall_seconds=5')
  finish(*start_hosts(command(folder / 'undisturbed', *words)))
  pair = start_hosts(command(folder / 'run', *words))
  wait_for_step(50, folder / 'run', pair)
  pair[1].send_signal(signal.SIGSTOP)
  time.sleep(15)
  pair[1].send_signal(signal.SIGCONT)
  reached = max(losses(folder / 'run'))
  wait_for_step(reached + 50, folder / 'run', pair)
  pair[1].kill()
  begun = time.perf_counter()
  said = pair[0].communicate(timeout=600)[0]
  seconds = time.perf_counter() - begun
  (folder / 'left.log').write_text(said)
  stalls = [line.partition(';')[0] for line in said.splitlines() if 'no progress for' in line]
  stalls = [
    line for line in stalls if line.endswith((f'step {reached + 1}', f'step {reached + 2}'))
  ]
  assert stalls, f'nothing said between steps {reached} and {reached + 2}: {said}'
  assert pair[0].returncode, 'the host that was left went on alone'
  finish(*start_hosts(command(folder / 'run', *words)))
  same = fingerprint(folder / 'run') == fingerprint(folder / 'undisturbed')
  assert same, 'the end is another one'
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


def damage(folder) -> dict:
  """Single bytes changed, files cut off, files deleted: anywhere in a checkpoint."""
  import jax

  from scs_jax.workdir.checkpoints import CheckpointError, Checkpoints

  state = {'a': jax.random.normal(jax.random.key(0), (300, 40)), 'b': jax.numpy.arange(7)}
  with Checkpoints(folder / 'run') as checkpoints:
    checkpoints.save(5, state, {'metrics': {'val/accuracy': 0.5}, 'iterator': {'step': 5}})
  step = folder / 'run' / '5'
  files = sorted(path for path in step.rglob('*') if path.is_file())
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )

  def harmless() -> bool:
    """Whether a restore gives the right bits; an error is fine too, and is told apart."""
    with Checkpoints(folder / 'run', read_only=True) as checkpoints:
      restored = checkpoints.restore(wanted)
    same = jax.tree.map(np.array_equal, restored.state, state)
    assert all(jax.tree.leaves(same)), 'a silent wrong restore'
    return True

  def change(data, rng):
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
        unharmed += harmless()
      except CheckpointError:
        detected += 1
      path.write_bytes(data)
    result[kind] = {'detected': detected, 'restored right': unharmed, 'of': times}
    assert detected + unharmed == times
  return result


def devices(folder) -> dict:
  """A run that goes on on 8, 4, 2, 1 and 8 devices, stopped by SIGTERM in between."""
  result = {}
  for layout, fsdp in (('data', 1), ('fsdp', -1)):
    run, reached, before = folder / layout, 0, ''
    words = (
      '--config.total_epochs=30',
      f'--config.mesh.data={-fsdp}',
      f'--config.mesh.fsdp={fsdp}',
    )
    for count in (8, 4, 2, 1, 8):
      if reached:
        assert fingerprint(run, fsdp, count) == before
        result[f'{layout}, step {reached} restored on {count}'] = 'bit-identical'
      process = start(command(run, *words), JAX_NUM_CPU_DEVICES=str(count))
      while process.poll() is None:
        path = run / 'metrics.jsonl'
        if path.exists() and max(losses(run), default=0) > reached + 40:
          process.send_signal(signal.SIGTERM)
          break
        time.sleep(0.02)
      finish(process)
      reached, before = max(losses(run)), fingerprint(run, fsdp, count)
    result[f'{layout}, loss at steps 1 and {reached}'] = [losses(run)[1], losses(run)[reached]]
  return result


def folders(folder) -> dict:
  """Disk full, a folder that may not be written, a folder that goes away."""
  result = {}
  small = folder / 'small'
  small.mkdir()
  if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=600k', 'tmpfs', small]).returncode:
    result['disk full'] = result['read-only'] = 'skipped: mounting is refused here'
  else:
    try:
      for policy in ('stop', 'continue'):
        process = start(command(small / policy, '--config.total_epochs=3', '--config.save_every_epochs=1',
                                f'--config.on_save_error={policy}'))  # fmt: skip
        said = process.communicate(timeout=300)[0].splitlines()[-1]
        result[f'disk full, {policy}'] = f'exit {process.returncode}: {said}'
        assert process.returncode
        assert 'No space left' in said
        shutil.rmtree(small / policy)
      subprocess.run(['mount', '-o', 'remount,ro', small], check=True)
      process = start(command(small / 'run'))
      said = process.communicate(timeout=300)[0].splitlines()[-1]
      result['read-only'] = f'exit {process.returncode}: {said}'
      assert process.returncode
      assert 'cannot be written' in said
    finally:
      subprocess.run(['umount', small], check=True)
  gone = folder / 'gone'
  process = start(command(gone))
  wait_for_step(1, gone, [process])
  shutil.rmtree(gone, ignore_errors=True)
  said = process.communicate(timeout=300)[0].splitlines()[-1]
  result['deleted while running'] = f'exit {process.returncode}: {said}'
  assert process.returncode
  return result


def sharded_bytes(folder) -> dict:
  """What one of eight devices holds of parameters and optimizer state, by fsdp."""
  del folder
  program = """
import jax
jax.config.update('jax_num_cpu_devices', 8)
from flax import nnx
from scs_jax import models, train
from scs_jax.train import optim, sharding
mesh = sharding.make_mesh(data=1, fsdp=8)
build = lambda: models.build('resnet', input_shape=(32, 32, 3), num_classes=10, rngs=nnx.Rngs(0))
schedule = {'name': 'constant', 'peak_learning_rate': 0.1}
optimizer = optim.make(10, name='adamw', schedule=schedule)
_, make_state = train.split_model(build, optimizer, averaged=False)
shapes = jax.eval_shape(make_state)
shardings = sharding.state_shardings(mesh, shapes)
state = jax.jit(make_state, out_shardings=shardings)()
leaves = [leaf for leaf in jax.tree.leaves(state) if not leaf.is_fully_replicated]
whole = sum(leaf.nbytes for leaf in leaves)
held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
everything = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
print(held / whole, whole / everything)
"""
  (said,) = finish(start([sys.executable, '-c', program]))
  held, share = map(float, said.split()[-2:])
  assert held <= 1.05 / 8
  return {'share of the sharded layers on one device': held, 'share of the state in them': share}


def bad_inputs(folder) -> dict:
  """The catalogue: each input is answered in one line that names it, with an exit code."""
  failures = {}
  for name, (words, expected) in CATALOGUE.items():
    if isinstance(words, str):
      words = [sys.executable, '-c', words]
    else:
      words = [sys.executable, '-m', 'scs_jax.main', *words]
    words = [word.replace('DIR', str(folder / 'bad')) for word in words]
    process = start(words)
    said = process.communicate(timeout=120)[0]
    last = said.strip().splitlines()[-1] if said.strip() else ''
    if not process.returncode or not all(word in last for word in expected):
      failures[name] = said[-500:]
    if 'Traceback' in said and isinstance(words, list) and words[1] == '-m':
      failures[name] = said[-500:]
  return {'inputs': len(CATALOGUE), 'not answered well': failures}


TABLES = {
  f.__name__: f
  for f in (processes, kills, signals, hosts, damage, devices, folders, sharded_bytes, bad_inputs)
}


def main(_) -> None:
  names = [ONLY.value] if ONLY.value else list(TABLES)
  path = HERE / 'results.json'
  for name in names:
    folder = pathlib.Path(WORKDIR.value, name).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    result = TABLES[name](folder)
    result = json.loads(json.dumps(result).replace(str(folder), 'DIR'))
    result['seconds'] = round(time.perf_counter() - begun)
    print(f'{name}: {json.dumps(result, indent=1)}', flush=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = result
    path.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
