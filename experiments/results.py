"""Trains a config and keeps what came of it: what the experiments that train networks share."""

import ast
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import platform
import runpy
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run: a config file with its argument, what is changed in it, and a seed."""

  config: str  # 'configs/gallery.py:mnist_smoke'
  seed: int
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # by dotted key

  def load(self):
    """Returns the whole config."""
    file, _, argument = self.config.partition(':')
    get_config = runpy.run_path(str(ROOT / file))['get_config']
    config = get_config(argument) if argument else get_config()
    with config.ignore_type():  # 0.5 epochs where the file says 100
      config.update_from_flattened_dict({**self.changes, 'seed': self.seed})
    return config


def run(trial: Trial, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, or goes on where `workdir` stopped; returns what is worth keeping.

  Raises:
    SystemExit: the run was stopped by a signal before its last step: there is no result yet.
  """
  from scs_jax.train import sharding

  config = trial.load()
  sharding.use_cpu_cores(config.batch_size)

  from scs_jax import train

  train.train_and_evaluate(config, str(workdir))
  return result(trial, config, workdir)


def result(trial: Trial, config, workdir: pathlib.Path) -> dict[str, Any]:
  """Returns what is worth keeping of the run of `trial` in `workdir`.

  Raises:
    SystemExit: it was stopped before its last step: there is no result yet.
  """
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  evaluations = [row for row in rows if 'val/accuracy' in row]
  images = len(_examples(config, config.data.train_split).labels)
  reached = evaluations[-1]['step'] if evaluations else 0
  if reached < int(config.total_epochs * images / config.batch_size):
    raise SystemExit(f'{workdir}: stopped before its end; the same command goes on')
  rate = statistics.median(
    e['train/images_per_second'] for e in evaluations if 'train/images_per_second' in e
  )
  return {
    **dataclasses.asdict(trial),
    'accuracy': evaluations[-1]['val/accuracy'],
    'evaluated_on': f'{config.data.name} {config.data.eval_split}',
    'parameters': parameters(config),
    'epochs': config.total_epochs,
    'images_per_second': round(rate),
    'training_seconds': round(reached * config.batch_size / rate),
    'date': datetime.date.today().isoformat(),
  }


def seeds(first: int, end: int) -> range:
  """Returns the seeds from --first_seed up to --seeds, exclusive.

  Raises:
    ValueError: there is none.
  """
  if first < 0:
    raise ValueError(f'--first_seed={first}: seeds begin at 0')
  if end <= first:
    raise ValueError(
      f'--first_seed={first} and --seeds={end}: no seed is from {first} on and below {end}; '
      f'--seeds is where to end, so for one seed it is {first + 1}'
    )
  return range(first, end)


def parse_change(text: str) -> tuple[str, Any]:
  """Returns the key and the value of a --change=KEY=VALUE: a Python literal, or else a word.

  Raises:
    ValueError: it has no '='.
  """
  key, equals, value = text.partition('=')
  if not equals:
    raise ValueError(f'--change={text}: it must be KEY=VALUE')
  try:
    return key, ast.literal_eval(value)
  except (SyntaxError, ValueError):  # a word, such as shared
    return key, value


def results_file(given: str | None, workdir: str, name: str = 'results.jsonl') -> pathlib.Path:
  """Returns the file that gets the results: `given`, or else `name` in `workdir`.

  So that a command trains wherever it is typed. What is in the tables was run with `given`, beside them.

  Raises:
    ValueError: `workdir` is empty.
  """
  from scs_jax.workdir.claim import folder

  home = folder(workdir)
  return pathlib.Path(given or home / name)


def add_missing(
  results: pathlib.Path, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
) -> None:
  """Adds a line of `key`, `make()` and their origin, unless one with all of `key` is there already.

  Two processes may share a file. What both of them made is there once.
  """
  if with_key(read(results), key):
    print(f'in {results} already: {key}', flush=True)
    return
  begun = commit()  # of what is about to run: there may be another one when it ends
  line = {**key, **make(), 'commit': begun, **_machine()}
  results.parent.mkdir(parents=True, exist_ok=True)
  with results.open('a') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    there = with_key(read(results), key)
    if not there:
      file.write(json.dumps(line) + '\n')
  print(f'{"another process was first in" if there else "added to"} {results}: {line}', flush=True)


def parameters(config) -> int:
  """Returns the number of learned numbers of the config's network, all of them."""
  import jax
  from flax import nnx

  from scs_jax import models

  data = _examples(config, config.data.eval_split)
  sizes = {'input_shape': data.images.shape[1:], 'num_classes': data.num_classes}
  build = lambda: models.build(**config.model.to_dict(), **sizes, rngs=nnx.Rngs(0))
  params = nnx.state(nnx.eval_shape(build), nnx.Param)
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def _examples(config, split: str):
  from scs_jax import data

  return data.load(config.data.name, split, data_dir=config.data.data_dir)


def commit() -> str:
  """Returns the commit of the code, with a '+' if any of it was changed since."""
  git = lambda *words: subprocess.run(
    ['git', *words], capture_output=True, text=True, cwd=ROOT
  ).stdout.strip()
  code = ('scs_jax', 'configs', 'experiments/*.py')
  changed = git('status', '--porcelain', '--untracked-files=no', '--', *code)
  return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')


def origin() -> dict[str, Any]:
  """Returns the commit, the machine and the versions that a result is from."""
  return {'commit': commit(), **_machine()}


def _machine() -> dict[str, Any]:
  import jax  # late, because `run` sets the devices first

  device = jax.devices()[0]
  chips = '' if device.platform == 'cpu' else f'{jax.device_count()} {device.device_kind}, '
  return {
    'machine': f'{chips}{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()})',
    'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in ('jax', 'flax', 'optax', 'numpy')},
    },
  }


def read(results: pathlib.Path) -> list[dict[str, Any]]:
  """Returns all lines.

  Raises:
    ValueError: one of them is not JSON, as when a full disk cut it off.
  """
  lines = results.read_text().splitlines() if results.exists() else []
  for number, line in enumerate(lines):
    try:
      lines[number] = json.loads(line)
    except json.JSONDecodeError as error:
      raise ValueError(
        f'{results}, line {number + 1}, is not JSON: {error}. Remove it, and run again what it held'
      ) from error
  return lines


def with_key(results: Iterable[Mapping[str, Any]], key: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the lines that have all of `key`."""
  key = json.loads(json.dumps(key))  # as a line gives it back, with lists for tuples
  return [line for line in results if key.items() <= line.items()]


def percent(shares: Iterable[float], digits: int = 1) -> str:
  """Returns mean and standard deviation, '88.0 ± 0.2 %', of shares from 0 to 1; of one, no spread."""
  values = [100 * share for share in shares]
  spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
  return f'{statistics.mean(values):.{digits}f}{spread} %'


def write_between(readme: pathlib.Path, mark: str, text: str) -> None:
  """Replaces what stands between `<!-- mark -->` and `<!-- end of mark -->` in a README."""
  begin, end = f'<!-- {mark} -->', f'<!-- end of {mark} -->'
  whole = readme.read_text()
  if begin not in whole or end not in whole:
    raise ValueError(f'{readme} lacks {begin} or {end}')
  head, rest = whole.split(begin)
  readme.write_text(f'{head}{begin}\n{text}\n{end}{rest.split(end)[1]}')
