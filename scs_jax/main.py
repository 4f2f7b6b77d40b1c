"""The command line: python -m scs_jax.main --config=configs/quickstart.py --workdir=DIR."""

import os
import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from scs_jax.errors import ArgumentError, UserError

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  help_string="A file of configs/, with its argument after a colon, or a workdir's config.json.",
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run. The same command again resumes it.'
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'pictures', 'explorer'],
  'Train; evaluate a checkpoint; draw its kernels; or write explorer.html, a page that shows the '
  'network at work. The explorer needs no --config.',
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


def main(argv: list[str]) -> None:
  """Runs what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments {argv[1:]}')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # the run prints what a user wants to know
  config, workdir = _CONFIG.value, str(_WORKDIR.value)  # absl requires both
  _join_hosts()

  if _MODE.value == 'explorer':
    from scs_jax import explorer

    return _print(explorer.write(workdir, _STEP.value))

  from scs_jax.train import sharding  # late, because a typo in a flag should be reported at once

  sharding.use_cpu_cores(config.batch_size)

  from scs_jax import train
  from scs_jax.train import report

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


def _join_hosts() -> None:
  """Joins the other processes of a run, if there are any."""
  if 'JAX_COORDINATOR_ADDRESS' not in os.environ:
    if _DISTRIBUTED.value:
      jax.distributed.initialize()  # JAX finds the hosts of a TPU pod by itself
    return
  names = ('JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
  try:
    count, index = (int(os.environ[name]) for name in names)
  except (KeyError, ValueError):
    said = {name: os.environ.get(name) for name in names}
    raise ArgumentError(
      f'JAX_COORDINATOR_ADDRESS is set, so {" and ".join(names)} must be numbers, got {said}'
    ) from None
  jax.distributed.initialize(os.environ['JAX_COORDINATOR_ADDRESS'], count, index)


def run() -> None:
  """Prints expected errors as one line, without a traceback."""
  flags.mark_flag_as_required('workdir')
  flags.register_multi_flags_validator(
    ['config', 'mode'],
    lambda given: given['config'] is not None or given['mode'] == 'explorer',
    'Flag --config must have a value other than None.',
  )
  try:
    app.run(main, argv=[_readable(word) for word in sys.argv], flags_parser=_parse)
  except UserError as error:
    sys.exit('\n'.join([f'error: {error}', *_notes_of(error)]))


def _notes_of(error: UserError) -> list[str]:
  """Returns our own notes of an error; JAX adds one about its traceback behind a dashed line."""
  return [note for note in getattr(error, '__notes__', ()) if not note.startswith('---')]


def _readable(word: str) -> str:
  """Lets the flag --config take a workdir's config.json: a Python file of ours reads it."""
  name, _, path = word.partition('=')
  if name.lstrip('-') == 'config' and path.endswith('.json'):
    return f'{name}={pathlib.Path(__file__).parent / "train" / "config.py"}:{path}'
  return word


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; a misspelt key or a config file that does not load is one line too."""
  try:
    rest = flags.FLAGS(argv)
    if _CONFIG.value is not None:
      _CONFIG.value.keys()  # a config that did not load fails at the first touch
    return rest
  except flags.Error as error:
    # What a config file raised comes as the text of its traceback; its last line is the message.
    lines = [line for line in str(error).splitlines() if line.strip()]
    flag = lines[0].removesuffix('Error whilst parsing config file:') if len(lines) > 1 else ''
    message = lines[-1].removeprefix('scs_jax.errors.ArgumentError: ').removeprefix('ValueError: ')
    sys.exit(f'error: {flag}{message}')
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    message: object = error
    while isinstance(message, Exception) and message.args and not isinstance(message, OSError):
      message = message.args[0]
    sys.exit('error: --config: ' + ' '.join(str(message).split()))


if __name__ == '__main__':
  run()
