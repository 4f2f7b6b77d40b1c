"""Trains and evaluates: python -m scs_jax.main --config=configs/quickstart.py --workdir=DIR."""

import errno
import re
import textwrap
from typing import Any

import jax
from absl import flags

import scs_jax
from scs_jax import command, data, explorer, export, pretrained, summary, train
from scs_jax.errors import ArgumentError, UserError
from scs_jax.train import config as configuration
from scs_jax.train import config_file, hosts, report, sharding, shipped
from scs_jax.train.keys import KEYS, keys_of
from scs_jax.workdir import folder, read_config

_CONFIG = flags.DEFINE_string(
  'config',
  None,
  "A config that --list names, or a file, with its argument after a colon; or a workdir's "
  'config.json.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of the run, or gs://. The same command again resumes it. For summary and export also a '
  'network that --list names.',
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'pictures', 'explain', 'explorer', 'summary', 'export'],
  'Train; evaluate a checkpoint, and write predictions.npz into its workdir; draw its kernels; '
  'draw what each pixel of some images contributes to its logits; write explorer.html, a page that '
  'shows the network at work; print a table of its layers; or write it to --output. Only training '
  'needs --config.',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, f'The file of --mode=export; it ends in {", ".join(export.FORMATS)}.'
)
_LIST = flags.DEFINE_bool('list', False, 'Print the configs and networks of the package.')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Join the other hosts of a TPU pod. Elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and '
  'JAX_PROCESS_ID instead.',
)
_STEP = flags.DEFINE_integer(
  'step', None, 'The checkpoint that the other modes than train read; the newest by default.'
)
_OF_DISKS = (
  *(errno.EACCES, errno.EPERM, errno.EROFS),  # no right to
  *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG),
)
_FLAGS = ('config', 'workdir', 'mode', 'step', 'output', 'list', 'distributed')
_NETWORK_MODES = ('summary', 'export')  # of a config, a workdir or a network of the package
_EXAMPLE = 'scs-jax --config=quickstart --workdir=/tmp/quickstart'


def main(config: configuration.Config) -> None:
  """Runs what the flags say.

  Args:
    config: that of the flags; None if they need none.

  Raises:
    UserError: something that a user can mend.
  """
  try:
    _run_mode(config)
  except OSError as error:
    if error.errno not in _OF_DISKS:
      raise
    raise UserError(
      f'{error.filename or "a file"} cannot be written or read: {error.strerror}. Make room, give '
      'the right to it, or name another folder'
    ) from error
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise UserError(
      f'the memory does not suffice ({str(error).partition(chr(10))[0]}): lower batch_size or '
      'eval_batch_size, take a smaller model, or split it over devices with mesh.fsdp'
    ) from error


def _run_mode(config: configuration.Config) -> None:
  if _LIST.value:
    return _print(listing())
  if _MODE.value == 'summary':
    return _print(summary.table(_network(config)))
  if _MODE.value == 'export':
    export.to_file(_network(config), str(_OUTPUT.value))
    return _print(_OUTPUT.value)
  workdir = str(_WORKDIR.value)  # `parse` requires it
  if _MODE.value == 'explorer':
    return _print(explorer.write(workdir, _STEP.value))
  configuration.check(config)
  hosts.join(_DISTRIBUTED.value)
  parts = sharding.parts(config.accumulate_steps, config.augment.mixup)
  sharding.use_cpu_cores(max(1, config.batch_size // parts))
  sharding.devices()  # a platform that is not there is reported at once
  experiment = train.Experiment(config)
  if _MODE.value == 'train':
    train.run(experiment, workdir)
  elif _MODE.value == 'eval':
    values = train.evaluate(experiment, workdir, _STEP.value, write_predictions=True)
    _print(report.numbers(values))
  elif _MODE.value == 'explain':
    _print(train.draw_explanations(experiment, workdir, _STEP.value))
  else:
    _print(train.draw(experiment, workdir, _STEP.value))


def _network(config: configuration.Config | None) -> Any:
  """Returns a trained network, or that of a config with its first weights."""
  if config is None:
    return scs_jax.load(str(_WORKDIR.value), _STEP.value)
  settings = {name: config.data[name] for name in ('data_dir', 'resolution')}
  sizes = data.sizes(config.data.name, **settings)  # the data set need not be prepared
  experiment = train.Experiment(config, sizes=sizes)
  if _WORKDIR.value is None:
    return experiment.model()
  return train.trained(experiment, _WORKDIR.value, _STEP.value)


def _print(text: object) -> None:
  if jax.process_index() == 0:
    command.show(text)


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


def parse(argv: list[str]) -> configuration.Config | None:
  """Returns the config that the words of the command line describe; None if it is not needed.

  Raises:
    ArgumentError: a flag is missing, unknown or has a wrong value.
  """
  forget_keys()
  # Which keys there are depends on the config. They are flags like any other once it is loaded.
  flags.FLAGS(argv, known_only=True)
  _check_flags()
  if _LIST.value:
    return _check_words(argv)
  # A workdir holds the config of its run.
  needed = {'train': ('config', 'workdir'), 'export': ('workdir', 'output')}
  needed = needed.get(_MODE.value, ('workdir',))
  if _MODE.value == 'summary' and _CONFIG.value is not None:
    needed = ()
  missing = [f'--{name}' for name in needed if flags.FLAGS[name].value is None]
  if missing and _MODE.value == 'summary':
    raise ArgumentError('--mode=summary needs --config or --workdir; --list names both')
  if missing:
    raise ArgumentError(
      f'{" and ".join(missing)} must be given, for example {_EXAMPLE}; --help lists all flags'
    )
  if _MODE.value in _NETWORK_MODES and _CONFIG.value is None:
    return _check_words(argv)
  given = config_of(str(_WORKDIR.value)) if _CONFIG.value is None else _CONFIG.value
  config = config_file.load(given)
  _define_keys(config, argv)
  try:
    _check_words(argv)
  except flags.UnrecognizedFlagError as error:
    if error.flagname.startswith('config.'):
      configuration.read(config, error.flagname.removeprefix('config.'), '')  # says what there is
    raise
  return config


def _check_flags() -> None:
  """Checks the flags that mean something in some modes only."""
  step, mode = _STEP.value, _MODE.value
  if step is not None and mode == 'train':
    raise ArgumentError(
      f'--step={step} is for the other modes than train, which resumes at the newest checkpoint: '
      'leave it out, or add --mode=eval'
    )
  if step is not None and step < 0:
    raise ArgumentError(f'--step={step} must be at least 0: the number of a checkpoint')
  if step is not None and _WORKDIR.value is None:
    raise ArgumentError(f'--step={step} is a checkpoint of a --workdir: name that too')
  if _OUTPUT.value is not None and mode != 'export':
    raise ArgumentError(f'--output={_OUTPUT.value} is for --mode=export: leave it out')


def _check_words(argv: list[str]) -> None:
  """Checks that every word is a flag."""
  others = flags.FLAGS(argv)[1:]
  if others:
    raise ArgumentError(f'{others[0]!r} is no flag: flags begin with two dashes and have no spaces')


def config_of(workdir: str) -> str:
  """Returns the path of the config that a workdir holds."""
  if workdir in pretrained.names() and not folder(workdir).is_dir():
    raise ArgumentError(
      f'--workdir={workdir} is a network of the package, which --mode={_MODE.value} does not take: '
      f'give the workdir of a run, or use scs_jax.load({workdir!r}) in Python'
    )
  path = folder(workdir)
  read_config(path)  # raises ArgumentError if it holds no run
  return str(path / 'config.json')


def _define_keys(config: configuration.Config, argv: list[str]) -> None:
  """Defines the flag `--config.KEY` for every key of a config, group, and typed part of a tuple."""
  keys = keys_of(config.model.name)
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
  """Returns all flags and all keys."""
  lines = [f'Usage: {_EXAMPLE} [--config.KEY=VALUE ...]', '', 'Flags:']
  lines += [_entry(f'--{name}', flags.FLAGS[name].help or '') for name in _FLAGS]
  lines += ['', 'Keys, with their defaults. A value is typed as in Python: 0.1, None, (0.9, 1.1).']
  for key, row in KEYS.items():
    limits = f' Range: {row.kind.range}.' if row.kind.range else ''
    lines.append(_entry(f'--config.{key}={row.default}', row.meaning + limits))
  lines += ['--config.model.ARGUMENT: what the class of the model takes, see scs_jax/models/']
  return '\n'.join(lines)


def listing() -> str:
  """Returns the configs and the networks that come with the package."""
  lines = ['Configs, for --config=NAME or --config=NAME:ARGUMENT:']
  for name in shipped.names():
    arguments = ', '.join(shipped.arguments_of(name))
    which = f' ARGUMENT: {arguments}.' if arguments else ''
    lines.append(_entry(name, f'{shipped.summary_of(name)}.{which}'))
  lines += ['', "Networks, for scs_jax.load('NAME') and --workdir=NAME --mode=summary or export:"]
  for name in pretrained.names():
    card = pretrained.card(name)
    found = f'{100 * card["accuracy"]:.2f} % of {card["images"]:,} images of {card["evaluated_on"]}'
    lines.append(_entry(name, f'{card["parameters"]:,} parameters, {found}.'))
  return '\n'.join(lines)


def _entry(name: str, text: str) -> str:
  return f'  {name}\n' + textwrap.fill(text, 100, initial_indent=' ' * 6, subsequent_indent=' ' * 6)


def run() -> None:
  """Runs the command line."""
  command.run(main, parse, usage)


if __name__ == '__main__':
  run()
