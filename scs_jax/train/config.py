"""The config of a run: one table of every key, and the checks that follow from it.

A file of `configs/` calls `default` and changes what is different. Every value can also be changed
on the command line: `--config.optimizer.schedule.peak_learning_rate=0.01`.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from scs_jax import models
from scs_jax.errors import ArgumentError, nearest
from scs_jax.train import losses, optim
from scs_jax.train.values import (
  Kind,
  boolean,
  choice,
  dtype,
  items,
  literal,
  maybe,
  number,
  of_annotation,
  pair,
  text,
  tuples,
  whole,
)

# A ConfigDict. It checks the types of its values when they are set; type checkers cannot.
Config = Any


@dataclasses.dataclass(frozen=True)
class Key:
  """A key of the config.

  Attributes:
    default: its value unless a config file or the command line sets another.
    kind: its type and its range.
    meaning: what it is for.
    may_change: whether a resumed run may change it. Any other change makes another run.
  """

  default: Any
  kind: Kind
  meaning: str
  may_change: bool = False


FREE = {'may_change': True}

# The keys of `config.model` are the arguments of the model's class; its docstring describes them.
KEYS: dict[str, Key] = {
  'seed': Key(
    0,
    whole(least=0, below=2**63, words='at least 0 and below 2**63'),
    'Seed of first weights, order of examples, augmentation and dropout.',
  ),
  # ------------------------------------------------------------------------------------- Data
  'data.name': Key(
    'mnist5k',
    text(),
    "'mnist5k' and 'fake' need no files. 'folder:PATH' are the user's own pictures in "
    'PATH/train/CLASS/ and PATH/test/CLASS/ (scs_jax.data.folder), '
    "'npz:FILE' own arrays (scs_jax.data.npz). 'my_module:load' is a function of the user that "
    'takes a split and returns scs_jax.data.Examples. Any other name is a TFDS data set, e.g. '
    "'cifar10'.",
  ),
  'data.data_dir': Key(
    None,
    maybe(text()),
    'Folder of prepared TFDS data sets. None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.',
    **FREE,
  ),
  'data.train_split': Key(
    'train',
    text(),
    "Split in TFDS's syntax: 'train', 'train[:90%]', 'train[-5000:]', 'train+test'.",
  ),
  'data.eval_split': Key('test', text(), 'Split to evaluate on, likewise.', **FREE),
  'data.resolution': Key(
    None,
    maybe(whole(least=1)),
    'Height and width of the images, pixels. None: all images are held in memory at their own '
    'size. A number: images of TFDS are streamed from disk and cropped to it, at random to train, '
    'in the centre to evaluate. Pictures of a folder are scaled to it, and streamed if they take '
    'more than 1 GiB.',
  ),
  'data.channels': Key(
    None,
    maybe(whole(least=1, most=4)),
    'Channels of the pictures of a folder: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. None '
    'means 3. Other data sets have their own.',
  ),
  'data.class_names': Key(
    None,
    maybe(items(text())),
    'Names of the classes, in the order of their labels. None means those of the data set, which '
    'the run writes here.',
    **FREE,
  ),
  'data.skip_bad_records': Key(
    0,
    whole(least=0),
    'Records of a split that may be left out because they cannot be decoded. A streamed split may '
    'leave out so many on each host.',
    **FREE,
  ),
  'data.workers': Key(
    0,
    whole(least=0),
    'Processes that decode streamed images, per host. 0 decodes in threads of the main process.',
    **FREE,
  ),
  # ------------------------------------------------------------------------------ Augmentation
  'augment.shift': Key(0, whole(least=0), 'Largest translation, whole pixels; 0 is off.'),
  'augment.flip': Key(False, boolean(), 'Mirror left and right with probability 1/2.'),
  'augment.rotate': Key(0.0, number(least=0, most=180), 'Largest angle, degrees.'),
  'augment.translate': Key(
    0.0, number(least=0, most=1), 'Largest translation, a fraction of the image.'
  ),
  'augment.scale': Key((1.0, 1.0), pair(above=0), 'Smallest and largest factor; (1, 1) is off.'),
  'augment.shear': Key(0.0, number(least=0, below=90), 'Largest angle, degrees.'),
  'augment.cutout': Key(0, whole(least=0), 'Side of a blackened square, pixels; 0 is off.'),
  # ---------------------------------------------------------------------------------- Training
  'batch_size': Key(128, whole(least=1), 'Examples per step, over all devices and hosts.'),
  'eval_batch_size': Key(
    500,
    whole(least=1),
    'Examples per evaluation step, at most all; rounded up to a multiple of the devices.',
    **FREE,
  ),
  'total_epochs': Key(30.0, number(above=0), 'Length of the training; fractions are allowed.'),
  'objective': Key(
    'classification',
    choice(losses.OBJECTIVES),
    "'classification' (cross-entropy, accuracy) or 'reconstruction' (squared error, PSNR).",
  ),
  'label_smoothing': Key(
    0.0, number(least=0, below=1), 'Share of the target spread evenly over all classes.'
  ),
  'ema_decay': Key(
    None,
    maybe(number(least=0, below=1)),
    'Decay per step of the exponential average of the parameters, which is then evaluated. None '
    'evaluates the last parameters.',
  ),
  'optimizer.name': Key(
    'adamw', choice(optim.OPTIMIZERS), "'adamw', or 'sgd' with Nesterov momentum."
  ),
  'optimizer.schedule.name': Key(
    'one_cycle', choice(optim.SCHEDULES), 'How the learning rate goes up and down.'
  ),
  'optimizer.schedule.peak_learning_rate': Key(0.03, number(above=0), 'The largest rate.'),
  'optimizer.schedule.warmup_fraction': Key(
    None,
    maybe(number(least=0, below=1)),
    "Share of the steps that the learning rate rises. None means 0.3 for 'one_cycle' and 0.05 for "
    "'cosine'; 'constant' has none.",
  ),
  'optimizer.momentum': Key(0.95, number(least=0, below=1), 'Of SGD, or b1 of Adam.'),
  'optimizer.cycle_momentum_to': Key(
    0.85,
    maybe(number(least=0, below=1)),
    "Momentum at the peak of 'one_cycle'. None keeps the momentum constant.",
  ),
  'optimizer.weight_decay': Key(
    0.0, number(least=0), 'Decoupled weight decay of kernels. Biases and normalisation have none.'
  ),
  'optimizer.p_weight_decay': Key(
    0.0,
    number(least=0),
    'Of p in its unconstrained form. It pulls p towards log 2 and costs accuracy '
    '(experiments/claims).',
  ),
  'optimizer.q_weight_decay': Key(0.0, number(least=0), 'Of q, likewise.'),
  'optimizer.p_multiplier': Key(1.0, number(least=0), 'Factor on the learning rate of p.'),
  'optimizer.q_multiplier': Key(1.0, number(least=0), 'Factor on the learning rate of q.'),
  'optimizer.clip_norm': Key(
    None, maybe(number(above=0)), 'Largest norm of the gradient; None does not clip.'
  ),
  # ------------------------------------------------------------------------- Devices and disk
  'mesh.data': Key(
    -1, whole(least=-1), 'Devices that split the batch; -1 means all remaining ones.', **FREE
  ),
  'mesh.fsdp': Key(
    1, whole(least=-1), 'Devices that also split parameters and optimizer state.', **FREE
  ),
  'log_every_steps': Key(100, whole(least=1), 'Steps between rows of training metrics.', **FREE),
  'eval_every_epochs': Key(1.0, number(above=0), 'Epochs between evaluations.', **FREE),
  'save_every_epochs': Key(5.0, number(above=0), 'Epochs between checkpoints.', **FREE),
  'keep_latest': Key(2, whole(least=1), 'Newest checkpoints kept.', **FREE),
  'keep_best': Key(1, whole(least=0), 'Best checkpoints kept in addition.', **FREE),
  'rollbacks': Key(
    0, whole(least=0), 'Times that a loss which is not finite may roll back the run.', **FREE
  ),
  'on_save_error': Key(
    'stop',
    choice(('stop', 'continue')),
    "What to do if a checkpoint cannot be written; 'continue' trains on without it.",
    **FREE,
  ),
  'stall_seconds': Key(
    600.0,
    number(above=0, most=1e9),
    'After so long without progress, processes report what they wait for.',
    **FREE,
  ),
}
MAY_CHANGE = tuple(key for key, row in KEYS.items() if row.may_change)


def default(model: str = 'scs_net') -> Config:
  """Returns a config with every key of `KEYS`. Setting an unknown key is an error.

  Args:
    model: name of a network of `scs_jax.models.MODELS`, or 'my_module:MyNet'. The arguments of its
      class become the keys of `config.model`; its docstring describes them.

  Raises:
    ArgumentError: the model is unknown.
  """
  config: Config = ConfigDict()
  for key, row in keys_of(model).items():
    place, name = config, key
    while '.' in name:
      group, _, name = name.partition('.')
      if group not in place:
        place[group] = ConfigDict()
      place = place[group]
    place[name] = placeholder(row.kind.type)  # a plain None could not be changed any more
    place[name] = row.default
  return config.lock()  # a misspelt key is an error, in a file as on the command line


def keys_of(model: str) -> dict[str, Key]:
  """Returns `KEYS` and those of `config.model`.

  Raises:
    ArgumentError: the model is unknown.
  """
  keys = {'model.name': Key(model, text(), "A network of scs_jax.models, or 'my_module:MyNet'.")}
  for name, parameter in models.parameters_of(model).items():
    if (kind := _kind_of(name, parameter)) is not None:
      given = None if parameter.default is inspect.Parameter.empty else tuples(parameter.default)
      if kind.type is str and name in _DTYPES:
        given = 'float32' if given is None else jnp.dtype(given).name  # None means that of images
      keys[f'model.{name}'] = Key(given, kind, f'Argument of the model {model!r}.')
  return KEYS | keys


_DTYPES = ('dtype', 'param_dtype')
_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)


def _kind_of(name: str, parameter: inspect.Parameter) -> Kind | None:
  """Returns the kind of a model's argument; None if no config can say it, such as a function."""
  if name in _DTYPES:
    return dtype()
  empty = parameter.default is inspect.Parameter.empty
  if not empty and not isinstance(parameter.default, _PLAIN):
    return None
  kind = of_annotation(parameter.annotation, None if empty else parameter.default)
  return dataclasses.replace(kind, optional=kind.optional and not empty)


# --------------------------------------------------------------------------------- Set and read


def assign(config: Config, key: str, value: Any) -> None:
  """Sets a value by its dotted key. Its type is checked, its range is not: see `check`.

  Args:
    config: is changed in place.
    key: such as 'optimizer.momentum'; a part of a tuple, such as 'model.stack[0].features'; or a
      group, such as 'optimizer', whose value is a dict of what changes in it.
    value: an integer is accepted as a float, a list as a tuple.

  Raises:
    ArgumentError: the key is unknown, or the value has another type.
  """
  keys = keys_of(config.model.name)
  base, inner = _split(key)
  if inner and base in keys:
    value, key = _with(_get(config, base), inner, tuples(value), key), base
  if key not in keys:
    if not _is_group(key, keys):
      raise ArgumentError(_unknown(key, keys))
    if not isinstance(value, Mapping):
      raise ArgumentError(f'{key} is a group of keys, and {value!r} is not a dict of their values')
    for name, each in value.items():
      assign(config, f'{key}.{name}', each)
    return
  try:
    value = None if value is None and keys[key].kind.optional else keys[key].kind.convert(value)
  except (TypeError, ValueError):
    raise ArgumentError(f'{key} must be {keys[key].kind.what}, got {_short(value)}') from None
  group, _, name = key.rpartition('.')
  place = _get(config, group) if group else config
  with place.ignore_type():  # a config file may have replaced a whole group by values of its own
    place[name] = value


def read(config: Config, key: str, word: str) -> Any:
  """Returns what a word of the command line means as the value of a key.

  Raises:
    ArgumentError: the key is unknown, or the word does not stand for a value of its type.
  """
  keys = keys_of(config.model.name)
  base, inner = _split(key)
  if inner or _is_group(key, keys):
    try:
      return literal(word)
    except (ValueError, SyntaxError):
      return word
  if key not in keys:
    raise ArgumentError(_unknown(key, keys))
  try:
    return keys[key].kind.read(word)
  except ValueError as error:
    raise ArgumentError(f'{key} must be {error}') from None


def _split(key: str) -> tuple[str, list[int | str]]:
  """Splits 'model.stack[0].features' into 'model.stack' and [0, 'features']."""
  base, bracket, rest = key.partition('[')
  parts = re.findall(r'\[(-?\d+)\]|\.(\w+)', bracket + rest)
  return base, [int(index) if index else name for index, name in parts]


def _with(whole: Any, inner: list[int | str], value: Any, key: str) -> Any:
  """Returns a tuple or dict with another value at the place `inner`."""
  if not inner:
    return value
  first, *rest = inner
  if isinstance(whole, Mapping) and isinstance(first, str):
    return {**whole, first: _with(whole.get(first), rest, value, key)}
  if isinstance(whole, tuple) and isinstance(first, int) and -len(whole) <= first < len(whole):
    new = list(whole)
    new[first] = _with(whole[first], rest, value, key)
    return tuple(new)
  raise ArgumentError(f'{key} does not exist: {first!r} is not in {_short(whole)}')


def _get(config: Config, key: str) -> Any:
  for name in key.split('.'):
    config = config[name]
  return config


def _is_group(key: str, keys: Mapping[str, Key]) -> bool:
  return any(known.startswith(f'{key}.') for known in keys)


def _unknown(key: str, keys: Mapping[str, Key]) -> str:
  near = nearest(key, keys, likeness=0.0)
  return f'the config has no key {key!r}; the nearest is {near!r}, and --help lists all'


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) < 100 else f'{text[:90]}…{text[-5:]}'


# ------------------------------------------------------------------------------- JSON and checks


def from_dict(values: Mapping[str, Any], source: str) -> Config:
  """Returns the config that `values` describe, with the defaults of keys they do not have.

  Args:
    values: as JSON gives them back.
    source: where they are from, for error messages.

  Raises:
    ArgumentError: there is a key or a value that no config has.
  """
  wrong = f'{source} is not the config of a run of this version of scs_jax'
  try:
    name = values['model']['name']
  except (KeyError, TypeError) as error:
    raise ArgumentError(f'{wrong}: it has no model.name') from error
  config = default(name)
  try:
    for key, value in values.items():
      assign(config, key, value)
  except ArgumentError as error:
    raise ArgumentError(f'{wrong}: {error}') from error
  return config


def to_json(config: Config) -> str:
  """Returns the JSON that a workdir keeps."""
  return config.to_json_best_effort(indent=2)


def check_keys(config: Config) -> None:
  """Checks that a config has the keys of `default`, and no others.

  Raises:
    ArgumentError: naming the key.
  """
  if not isinstance(config, ConfigDict):
    raise ArgumentError(
      f'a config is what train.config.default() returns, got {_short(config)}: return that'
    )
  name = config.get('model') and config.model.get('name')
  if not isinstance(name, str):
    raise ArgumentError('the config has no model.name: begin with train.config.default()')
  keys = keys_of(name)
  given = dict(leaves(config))
  for key in given:
    if key.startswith('model.') and key not in keys:
      known = ', '.join(each for each in keys if each.startswith('model.'))
      raise ArgumentError(
        f'{key} is no argument of the model {name!r}, which has {known}. To change the model, '
        f'begin the config file with default({name!r})'
      )
    if key not in keys:
      raise ArgumentError(_unknown(key, keys))
  for key in keys:
    if key not in given:
      raise ArgumentError(f'the config lacks {key}: begin with train.config.default()')


def check(config: Config) -> None:
  """Checks the keys of a config, and the type and range of each value.

  Raises:
    ArgumentError: naming the key, its value and its range.
  """
  check_keys(config)
  keys = keys_of(config.model.name)
  for key, value in leaves(config):
    if words := keys[key].kind.check(value):
      raise ArgumentError(f'{key} must be {words}, got {_short(value)}')
  if config.label_smoothing and config.objective != 'classification':
    raise ArgumentError(
      f'label_smoothing={config.label_smoothing} needs labels, and objective={config.objective!r} '
      'has none: set it to 0'
    )


def leaves(config: Config, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields the dotted key and the value of everything in a config."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value
