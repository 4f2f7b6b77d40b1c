"""Trains a config and keeps the result: what all experiments that train share.

Results are lines of JSON: a key that says what was measured, the values, and their origin (commit,
machine, versions). A key may stand in several lines of a file; `newest` picks the last one.
"""

import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

import jax

from scs_jax import train
from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment, config_file, sharding
from scs_jax.train.config import assign
from scs_jax.workdir import folder

ROOT = pathlib.Path(__file__).parent.parent


# ----------------------------------------------------------------------------------------- Runs


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run.

  Attributes:
    config: a config file with its argument, e.g. 'configs/gallery.py:mnist_smoke'.
    seed: of the run.
    changes: values that differ from the config file, by dotted key.
  """

  config: str
  seed: int
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def load(self) -> Any:
    """Returns the whole config, a `ConfigDict`, whose values have no static types.

    Raises:
      ArgumentError: there is no such file, or a change has an unknown key or a wrong type.
    """
    if 'seed' in self.changes:
      raise ArgumentError('seed cannot be changed: every trial has its own (--seeds)')
    config = config_file.load(str(ROOT / self.config))
    for key, value in {**self.changes, 'seed': self.seed}.items():
      assign(config, key, value)
    return config


def run(trial: Trial, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, or resumes the run in `workdir`, and returns `result`.

  Raises:
    SystemExit: a signal stopped the run before its last step, so it has no result yet.
    scs_jax.train.NonFiniteError: the training diverged.
  """
  config = trial.load()
  sharding.use_cpu_cores(config.batch_size)
  experiment = Experiment(config)
  train.run(experiment, str(workdir))
  return result(trial, experiment, workdir)


def result(trial: Trial, experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the result of the finished run in `workdir`.

  Args:
    trial: what was run.
    experiment: that of `trial`.
    workdir: the run's folder; its `metrics.jsonl` is read.

  Raises:
    SystemExit: the run was stopped before its last step, so it has no result yet.
  """
  config: Any = experiment.config
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  evaluations = [row for row in rows if 'val/accuracy' in row]
  reached = evaluations[-1]['step'] if evaluations else 0
  if reached < experiment.total_steps:
    raise SystemExit(f'{workdir}: stopped before its end; run the same command again to resume')
  rate = statistics.median(
    row['train/images_per_second'] for row in evaluations if 'train/images_per_second' in row
  )
  return {
    **dataclasses.asdict(trial),
    'accuracy': evaluations[-1]['val/accuracy'],
    'evaluated_on': f'{config.data.name} {config.data.eval_split}',
    'parameters': parameters(experiment),
    'epochs': config.total_epochs,
    'images_per_second': round(rate),
    'training_seconds': round(reached * config.batch_size / rate),
    'date': datetime.date.today().isoformat(),
  }


def parameters(experiment: Experiment) -> int:
  """Returns the number of learned numbers of the network: kernels, p, q, scales and head."""
  return sum(leaf.size for leaf in jax.tree.leaves(experiment.weight_shapes[0]))


# ------------------------------------------------------------------------------------- Results


def results_file(given: str | None, workdir: str, name: str = 'results.jsonl') -> pathlib.Path:
  """Returns the file that gets the results: `given`, or else `name` in `workdir`.

  A command can thus be tried without changing the results in the clone.

  Raises:
    ArgumentError: `workdir` is empty.
  """
  home = folder(workdir)
  return pathlib.Path(given or home / name)


def add_missing(
  results: pathlib.Path, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
) -> None:
  """Measures and adds a line, unless the file has a line with this key.

  Several processes may share a file. If two of them measure the same key, the first line is kept.

  Args:
    results: the file; it is made if it does not exist.
    key: what is measured.
    make: measures it, and returns the values.

  Raises:
    ArgumentError: a line of the file is not JSON.
  """
  if with_key(read(results), key):
    print(f'{results} already has {dict(key)}', flush=True)
    return
  begun = commit()  # before `make`: a new commit may come while it runs
  line = {**key, **make(), 'commit': begun, **_machine()}
  if _write(results, line, unless=key):
    print(f'added to {results}: {line}', flush=True)
  else:
    print(f'another process has already added {dict(key)} to {results}', flush=True)


def append(results: pathlib.Path, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
  """Adds a line of key, values and their origin, even if the file has this key."""
  _write(results, {**key, **values, **origin()})


def _write(
  results: pathlib.Path, line: Mapping[str, Any], unless: Mapping[str, Any] | None = None
) -> bool:
  """Appends a line under a lock, unless the file has the key `unless`; returns whether it did."""
  results.parent.mkdir(parents=True, exist_ok=True)
  with results.open('a') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    if unless is not None and with_key(read(results), unless):
      return False
    file.write(json.dumps(line) + '\n')
  return True


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns all lines of a file of results; none if it does not exist.

  Raises:
    ArgumentError: a line is not JSON, for example because a full disk cut it off.
  """
  lines = []
  for number, text in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError as error:
      raise ArgumentError(
        f'{path}, line {number}, is not JSON: {error}. Remove the line, and run the command that '
        'made it again'
      ) from error
  return lines


def with_key(lines: Iterable[Mapping[str, Any]], key: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the lines that have all of `key`."""
  key = json.loads(json.dumps(key))  # in a line, tuples are lists
  return [dict(line) for line in lines if key.items() <= line.items()]


def newest(lines: Iterable[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
  """Returns the last line for each value of the keys `names`, in the order of the first ones."""
  last: dict[str, Mapping[str, Any]] = {}
  for line in lines:
    last[json.dumps([line[name] for name in names])] = line
  return [dict(line) for line in last.values()]


def origin() -> dict[str, Any]:
  """Returns the commit, the machine and the versions of a result."""
  return {'commit': commit(), **_machine()}


def commit() -> str:
  """Returns the commit of the code, with a '+' if tracked code was changed since."""
  git = lambda *words: subprocess.run(
    ['git', *words], capture_output=True, text=True, cwd=ROOT
  ).stdout.strip()
  code = ('scs_jax', 'configs', 'experiments/*.py')
  changed = git('status', '--porcelain', '--untracked-files=no', '--', *code)
  return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')


def _machine() -> dict[str, Any]:
  device = jax.devices()[0]
  chips = '' if device.platform == 'cpu' else f'{jax.device_count()} {device.device_kind}, '
  return {
    'machine': f'{chips}{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})',
    'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in ('jax', 'flax', 'optax', 'numpy')},
    },
  }


# ------------------------------------------------------------------------------------- READMEs


def percent(shares: Iterable[float], digits: int = 1) -> str:
  """Returns mean and standard deviation of shares from 0 to 1 as text.

  Example:
    >>> percent([0.878, 0.882]), percent([0.88])
    ('88.0 ± 0.3 %', '88.0 %')
  """
  values = [100 * share for share in shares]
  spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
  return f'{statistics.mean(values):.{digits}f}{spread} %'


def write_between(readme: pathlib.Path, mark: str, text: str) -> None:
  """Replaces the text between `<!-- mark -->` and `<!-- end of mark -->` in a README.

  Raises:
    ArgumentError: the README lacks one of them.
  """
  begin, end = f'<!-- {mark} -->', f'<!-- end of {mark} -->'
  whole = readme.read_text()
  if begin not in whole or end not in whole:
    raise ArgumentError(f'{readme} lacks {begin} or {end}')
  head, rest = whole.split(begin)
  readme.write_text(f'{head}{begin}\n{text}\n{end}{rest.split(end)[1]}')
