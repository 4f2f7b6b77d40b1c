"""Faults of disks: damaged files, full disks of every size, folders that go away."""

import contextlib
import json
import random
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import scs_jax
from experiments.faults.runs import (
  Path,
  command,
  error_of,
  finish,
  start,
  wait_for_step,
)
from scs_jax import train
from scs_jax.errors import UserError
from scs_jax.train import Experiment
from scs_jax.train.config import default
from scs_jax.workdir import CheckpointError, Checkpoints, MetricLog
from scs_jax.workdir import folder as workdir_folder

KIBIBYTE = 1024


def damage(folder: Path, times: int) -> dict[str, Any]:
  """Bytes changed, files cut off, blocks of zeros, files deleted: in every file of a workdir."""
  rng, result = random.Random(0), {}
  for name, part, (target, attempt) in (
    ('checkpoint', 0.6, _checkpoint(folder / 'checkpoint')),
    ('config.json and model.json', 0.15, _description(folder / 'described')),
    ('metrics.jsonl', 0.25, _metrics(folder / 'metrics')),
  ):
    for kind, (share, damaged) in KINDS.items():
      count = round(times * share * part)
      outcomes = [_outcome(target(), attempt, damaged, rng) for _ in range(count)]
      result[f'{name}, {kind}'] = {
        what: outcomes.count(what) for what in ('detected', 'harmless', 'silent')
      }
  total = sum(sum(counts.values()) for counts in result.values())
  silent = sum(counts['silent'] for counts in result.values())
  assert not silent, result
  return {**result, 'damages': total, 'silent': silent}


def _byte(data: bytes, rng: random.Random) -> bytes:
  at = rng.randrange(len(data))
  return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def _zeros(data: bytes, rng: random.Random) -> bytes:
  """A block that a crash left unwritten."""
  at = rng.randrange(len(data))
  end = min(len(data), at + rng.choice((1, 16, 512, 4096)))
  return data[:at] + bytes(end - at) + data[end:]


# The share of each kind of damage, and what it makes of the bytes of a file.
KINDS: dict[str, tuple[float, Callable[[bytes, random.Random], bytes | None]]] = {
  'byte changed': (0.5, _byte),
  'zeros': (0.2, _zeros),
  'cut off': (0.2, lambda data, rng: data[: rng.randrange(len(data))]),
  'deleted': (0.1, lambda data, rng: None),
}
Target = Callable[[], list[Path]]
Attempt = Callable[[], bool]  # whether what was read is right


def _outcome(
  files: list[Path],
  attempt: Attempt,
  damaged: Callable[[bytes, random.Random], bytes | None],
  rng: random.Random,
) -> str:
  """Damages one of the files, tries to read them, and restores the file."""
  path = rng.choice([path for path in files if path.stat().st_size])
  data = path.read_bytes()
  new = damaged(data, rng)
  path.unlink()
  if new is not None:
    path.write_bytes(new)
  try:
    return 'harmless' if attempt() else 'silent'
  except (CheckpointError, UserError):
    return 'detected'
  finally:
    path.write_bytes(data)


def _checkpoint(folder: Path) -> tuple[Target, Attempt]:
  """Returns the files of a checkpoint, and what restores it and compares every number."""
  state = {'a': jax.random.normal(jax.random.key(0), (300, 40)), 'b': jnp.arange(7)}
  with Checkpoints(folder / 'run') as checkpoints:
    checkpoints.save(5, state, {'metrics': {'val/accuracy': 0.5}, 'iterator': {'step': 5}})
  files = sorted(path for path in (folder / 'run' / '5').rglob('*') if path.is_file())
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )

  def attempt() -> bool:
    with Checkpoints(folder / 'run', read_only=True) as checkpoints:
      restored = checkpoints.restore(wanted)
    return restored is not None and _equal(restored.state, state)

  return lambda: files, attempt


def _description(folder: Path) -> tuple[Target, Attempt]:
  """Returns config.json and model.json of a run, and what loads its network and compares it."""
  config = default()
  config.model.stack = ({'kind': 'scs', 'features': 2}, {'kind': 'pool', 'window': 9}, HEAD)
  config.data.update(train_split='train[:128]', eval_split='test[:100]')
  config.total_epochs = 1.0
  train.run(Experiment(config), str(folder))
  image = np.linspace(0, 1, 28 * 28, dtype=np.float32).reshape(1, 28, 28, 1)
  logits = np.asarray(scs_jax.load(folder)(image))
  files = [folder / 'config.json', folder / 'model.json']
  return lambda: files, lambda: np.array_equal(scs_jax.load(folder)(image), logits)


HEAD = {'kind': 'head'}
ROWS = [{'step': step, 'train/loss': 1 / step} for step in range(1, 41)]


def _metrics(folder: Path) -> tuple[Target, Attempt]:
  """Returns a metrics.jsonl, and what resumes it: only rows that were damaged may be missing."""
  folder.mkdir(parents=True)

  def target() -> list[Path]:
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in ROWS))
    return [folder / 'metrics.jsonl']

  def attempt() -> bool:
    path = folder / 'metrics.jsonl'
    if not path.exists():
      raise CheckpointError('it is missing')  # the run refuses this before it opens the log
    intact = [line for line in path.read_text(errors='replace').splitlines() if line in TEXTS]
    with MetricLog(workdir_folder(folder), start=40, total_steps=40, rows=DIGESTS):
      pass
    return set(intact) <= set(path.read_text().splitlines()) <= TEXTS

  return target, attempt


TEXTS = {json.dumps(row) for row in ROWS}
DIGESTS = [zlib.crc32(f'{json.dumps(row)}\n'.encode()) for row in ROWS]  # of its checkpoint


def _equal(one: Any, other: Any) -> bool:
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


# ------------------------------------------------------------------------------------- Full disks


def full_disks(folder: Path, times: int) -> dict[str, Any]:
  """A run on file systems of every size, from nothing to just enough, under both policies."""
  words = ('--config.total_epochs=3', '--config.save_every_epochs=1')
  finish(start(command(folder / 'free', *words)))
  needed = sum(path.stat().st_size for path in (folder / 'free').rglob('*') if path.is_file())
  result: dict[str, Any] = {'bytes that the run needs': needed}
  largest = 2 * needed  # file systems store whole pages, and a save needs room for one more step
  sizes = np.geomspace(4 * KIBIBYTE, largest, times).astype(int)
  for number, size in enumerate(sizes):
    policy = ('stop', 'continue')[number % 2]
    with mounted(folder / 'small', size) as small:
      process = start(command(small / 'run', *words, f'--config.on_save_error={policy}'))
      said = process.communicate(timeout=300)[0]
      code = process.returncode
      good = verified_steps(small / 'run')
    errors = [line for line in said.splitlines() if line.startswith('error:')]
    assert code in (0, 1), said
    assert 'Traceback' not in said, said
    if code:
      assert re.search('No space left|disk', errors[-1]), said
    else:
      assert good[-1:] == [60], (good, said)
    result[f'{size // KIBIBYTE} KiB, {policy}'] = [code, good, *errors[-1:]]
  codes = [value[0] for value in result.values() if isinstance(value, list)]
  return {**result, 'disks': len(codes), 'ended well': codes.count(0)}


def verified_steps(run: Path) -> list[int]:
  """Returns the steps of a run that can be restored; none if it never got that far."""
  if not (run / 'checkpoints').exists():
    return []
  with Checkpoints(run / 'checkpoints', read_only=True) as checkpoints:
    return checkpoints.verified_steps()


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
  """A file system in memory with so many bytes, at `folder`."""
  folder.mkdir(exist_ok=True)
  subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder], check=True)
  try:
    yield folder
  finally:
    subprocess.run(['umount', '--lazy', folder], check=True)


def folders(folder: Path) -> dict[str, Any]:
  """A read-only folder, and a folder that is deleted during the run."""
  result = {}
  with mounted(folder / 'small', 2**20) as small:
    subprocess.run(['mount', '-o', 'remount,ro', small], check=True)
    process = start(command(small / 'run'))
    said = error_of(process)
    result['read-only'] = f'exit {process.returncode}: {said}'
    assert process.returncode, said
    assert 'cannot be written' in said, said
  gone = folder / 'gone'
  process = start(command(gone))
  wait_for_step(1, gone, [process])
  shutil.rmtree(gone, ignore_errors=True)
  said = error_of(process)
  result['deleted while running'] = f'exit {process.returncode}: {said}'
  assert process.returncode, said
  return result
