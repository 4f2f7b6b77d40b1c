"""Trains or evaluates: python -m scs_jax.main --config=configs/quickstart.py --workdir=DIR."""

import os
import pathlib
import sys
import traceback

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from scs_jax.train import sharding

_CONFIG = config_flags.DEFINE_config_file(
  'config', help_string='A file of configs/, with its argument after a colon.', lock_config=True
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run lives; the same again goes on.')
_MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval'], 'Train, or evaluate a checkpoint.')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Join the other hosts of a TPU pod. Elsewhere JAX_COORDINATOR_ADDRESS, '
  'JAX_NUM_PROCESSES and JAX_PROCESS_ID say which processes there are.',
)
_STEP = flags.DEFINE_integer('step', None, 'The checkpoint that --mode=eval evaluates; newest.')


def main(argv: list[str]) -> None:
  """Runs what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments {argv[1:]}')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # the run says itself what a user wants to know
  config = _CONFIG.value
  _join_hosts()
  sharding.use_cpu_cores(config.batch_size)

  from scs_jax import train  # after the devices are settled, and after a typo was refused

  if _MODE.value == 'train':
    train.train_and_evaluate(config, _WORKDIR.value)
    return
  values = train.evaluate_checkpoint(config, _WORKDIR.value, _STEP.value)
  if jax.process_index() == 0:
    print('  '.join(f'{name} {value:.4g}' for name, value in values.items()))


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
    raise ValueError(
      f'JAX_COORDINATOR_ADDRESS is set, so {" and ".join(names)} must be numbers, got {said}'
    ) from None
  jax.distributed.initialize(os.environ['JAX_COORDINATOR_ADDRESS'], count, index)


def _run() -> None:
  """Turns errors that this package raises itself into one line: they were written to be read."""
  flags.mark_flags_as_required(['config', 'workdir'])
  try:
    app.run(main, flags_parser=_parse)
  except Exception as error:
    raised_in = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if pathlib.Path(__file__).parent not in raised_in.parents:
      raise
    sys.exit(f'error: {error}')


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; a misspelt key or a config file that does not load is one line too."""
  try:
    rest = flags.FLAGS(argv)
    _CONFIG.value.keys()  # a config that did not load fails at the first touch
    return rest
  except flags.Error as error:
    # What a config file raised comes as the text of its traceback; its last line says what it was.
    lines = [line for line in str(error).splitlines() if line.strip()]
    flag = lines[0].removesuffix('Error whilst parsing config file:') if len(lines) > 1 else ''
    sys.exit(f'error: {flag}{lines[-1].removeprefix("ValueError: ")}')
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    message = error
    while isinstance(message, Exception) and message.args and not isinstance(message, OSError):
      message = message.args[0]
    sys.exit('error: --config: ' + ' '.join(str(message).split()))


if __name__ == '__main__':
  _run()
