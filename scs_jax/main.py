"""Trains and evaluates: python -m scs_jax.main --config=configs/quickstart.py --workdir=DIR."""

import ast
import pathlib
import re
import textwrap

import jax
from absl import flags

from scs_jax import command, explorer, train
from scs_jax.errors import ArgumentError
from scs_jax.train import config as configuration
from scs_jax.train import config_file, hosts, report, sharding
from scs_jax.workdir import folder, read_config

_CONFIG = flags.DEFINE_string(
  'config',
  None,
  "A file of configs/, with its argument after a colon, or a workdir's config.json.",
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run, or gs://. The same command again resumes it.'
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'pictures', 'explorer'],
  'Train; evaluate a checkpoint; draw its kernels; or write explorer.html, a page that shows the '
  'network at work. Only training needs --config.',
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Join the other hosts of a TPU pod. Elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and '
  'JAX_PROCESS_ID instead.',
)
_STEP = flags.DEFINE_integer(
  'step', None, 'The checkpoint that the other modes than train read; the newest by default.'
)
_FLAGS = ('config', 'workdir', 'mode', 'step', 'distributed')
_EXAMPLE = 'python -m scs_jax.main --config=configs/quickstart.py --workdir=/tmp/quickstart'


def main(config: configuration.Config) -> None:
  """Runs what the flags say.

  Args:
    config: that of the flags.
  """
  workdir = str(_WORKDIR.value)  # `parse` requires it
  if _MODE.value == 'explorer':
    return _print(explorer.write(workdir, _STEP.value))
  configuration.check(config)
  hosts.join(_DISTRIBUTED.value)
  sharding.use_cpu_cores(config.batch_size)
  sharding.devices()  # a platform that is not there is reported at once
  experiment = train.Experiment(config)
  if _MODE.value == 'train':
    train.run(experiment, workdir)
  elif _MODE.value == 'eval':
    _print(report.numbers(train.evaluate(experiment, workdir, _STEP.value)))
  else:
    _print(train.draw(experiment, workdir, _STEP.value))


def _print(text: object) -> None:
  if jax.process_index() == 0:
    print(text)


# -------------------------------------------------------------------------------- Command line


class _Word(flags.ArgumentParser):
  """Sets a key of a config to what a word means."""

  def __init__(self, config: configuration.Config, key: str):
    super().__init__()
    self.config, self.key = config, key

  def parse(self, argument: str) -> str:
    value = configuration.read(self.config, self.key, argument)
    configuration.assign(self.config, self.key, value)
    return argument


def parse(argv: list[str]) -> configuration.Config:
  """Returns the config that the words of the command line describe.

  Raises:
    ArgumentError: a flag is missing, unknown or has a wrong value.
  """
  forget_keys()
  # Which keys there are depends on the config. They are flags like any other once it is loaded.
  flags.FLAGS(argv, known_only=True)
  # A workdir holds the config of its run.
  needed = ('config', 'workdir') if _MODE.value == 'train' else ('workdir',)
  missing = [f'--{name}' for name in needed if flags.FLAGS[name].value is None]
  if missing:
    raise ArgumentError(
      f'{" and ".join(missing)} must be given, for example {_EXAMPLE}; --help lists all flags'
    )
  config = config_file.load(_CONFIG.value or config_of(str(_WORKDIR.value)))
  _define_keys(config, argv)
  others = flags.FLAGS(argv)[1:]
  if others:
    raise ArgumentError(f'{others[0]!r} is no flag: flags begin with two dashes and have no spaces')
  if _STEP.value is not None and _MODE.value == 'train':
    raise ArgumentError(
      f'--step={_STEP.value} is for other modes than train; training resumes at the newest '
      'checkpoint: leave it out'
    )
  if _STEP.value is not None and _STEP.value < 0:
    raise ArgumentError(f'--step={_STEP.value} must be at least 0: the number of a checkpoint')
  return config


def config_of(workdir: str) -> str:
  """Returns the path of the config that a workdir holds."""
  path = folder(workdir)
  read_config(path)  # raises ArgumentError if it holds no run
  return str(path / 'config.json')


def _define_keys(config: configuration.Config, argv: list[str]) -> None:
  """Defines the flag `--config.KEY` for every key of a config, group, and typed part of a tuple."""
  keys = configuration.keys_of(config.model.name)
  parts = [re.match(r'--?config\.([\w.]+\[[^=]+)', word) for word in argv]
  names = dict.fromkeys([
    *keys,
    *(key.rpartition('.')[0] for key in keys if '.' in key),
    *(part[1] for part in parts if part),
  ])  # fmt: skip
  for name in names:
    flag = flags.Flag(_Word(config, name), None, f'config.{name}', None, '')
    flag.boolean = name in keys and keys[name].kind.type is bool  # has the form --noconfig.NAME
    flags.DEFINE_flag(flag)


def forget_keys() -> None:
  """Removes the flags that a config defined, so that another one can be parsed."""
  for name in [name for name in flags.FLAGS if name.startswith('config.')]:
    delattr(flags.FLAGS, name)


# ----------------------------------------------------------------------------------------- Help


def usage() -> str:
  """Returns all flags, the config files of this folder, and all keys."""
  lines = [f'Usage: {_EXAMPLE} [--config.KEY=VALUE ...]', '', 'Flags:']
  lines += [_entry(f'--{name}', flags.FLAGS[name].help or '') for name in _FLAGS]
  files = sorted(pathlib.Path('configs').glob('*.py'))
  if files:
    lines += ['', 'Config files (their docstrings say what comes after the colon):']
    lines += [_entry(str(file), _first_line(file)) for file in files]
  lines += ['', 'Keys, with their defaults. A value is typed as in Python: 0.1, None, (0.9, 1.1).']
  for key, row in configuration.KEYS.items():
    limits = f' Range: {row.kind.range}.' if row.kind.range else ''
    lines.append(_entry(f'--config.{key}={row.default}', row.meaning + limits))
  lines += ['--config.model.ARGUMENT: what the class of the model takes, see scs_jax/models/']
  return '\n'.join(lines)


def _entry(name: str, text: str) -> str:
  return f'  {name}\n' + textwrap.fill(text, 100, initial_indent=' ' * 6, subsequent_indent=' ' * 6)


def _first_line(file: pathlib.Path) -> str:
  try:
    return (ast.get_docstring(ast.parse(file.read_text())) or '').partition('\n')[0]
  except (OSError, SyntaxError, ValueError):
    return ''


if __name__ == '__main__':
  command.run(main, parse, usage)
