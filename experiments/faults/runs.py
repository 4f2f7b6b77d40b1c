"""Real processes of a small training: starts them, waits for them, and reads what they left."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent.parent
CACHE = pathlib.Path(tempfile.gettempdir(), 'scs_jax_faults_cache')  # of compiled programs

SMALL = (
  '--config=configs/quickstart.py',
  '--config.data.train_split=train[:1280]',
  '--config.data.eval_split=test[:100]',
  '--config.log_every_steps=1',
)

Process = subprocess.Popen[str]
Path = pathlib.Path


def command(workdir: Path, *words: str) -> list[str]:
  """Returns the command that trains the small config in `workdir`."""
  return [sys.executable, '-m', 'scs_jax.main', *SMALL, f'--workdir={workdir}', *words]


def start(words: Sequence[str], **environment: str) -> Process:
  """Starts a process with these variables in its environment."""
  everything = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(CACHE),
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
