"""The config of a run: one table of every key, and the checks that follow from it.

A file of `configs/` calls `default` and changes what is different. Every value can also be changed
on the command line: `--config.optimizer.schedule.peak_learning_rate=0.01`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from scs_jax.errors import ArgumentError, nearest
from scs_jax.train import optim
from scs_jax.train.keys import Key, keys_of
from scs_jax.train.values import literal, tuples

# A ConfigDict. It checks the types of its values when they are set; type checkers cannot.
Config = Any


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
  if _split(key)[1] or _is_group(key, keys):
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
  group, _, last = key.rpartition('.')
  prefix = f'{group}.' if _is_group(group, keys) else ''
  inside = [name for name in keys if name.startswith(prefix)]
  near = nearest(last if prefix else key, inside) or nearest(last, keys)
  if near:
    return f'the config has no key {key!r}; the nearest is {near!r}'
  names = dict.fromkeys(name.removeprefix(prefix).partition('.')[0] for name in inside)
  return f'the config has no key {key!r}; {group if prefix else "it"} has {", ".join(names)}'


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
  name = _model_name(values)
  if name is None:
    raise ArgumentError(f'{wrong}: it has no model.name')
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
  name = _model_name(config)
  if name is None:
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


def _model_name(values: Any) -> str | None:
  model = values.get('model') if isinstance(values, Mapping | ConfigDict) else None
  name = model.get('name') if isinstance(model, Mapping | ConfigDict) else None
  return name if isinstance(name, str) else None


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
  for key, value in (
    ('label_smoothing', config.label_smoothing),
    ('augment.mixup', config.augment.mixup),
  ):
    if value and config.objective != 'classification':
      raise ArgumentError(
        f'{key}={value} needs labels, and objective={config.objective!r} has none: set it to 0'
      )
  if config.optimizer.name in optim.SCHEDULE_FREE:
    _check_schedule_free(config)


def _check_schedule_free(config: Config) -> None:
  name = config.optimizer.name
  if config.ema_decay is not None:
    raise ArgumentError(
      f'ema_decay={config.ema_decay} does not go with optimizer.name={name!r}, which averages by '
      'itself: set it to None'
    )
  dtype = config.model.get('param_dtype')
  if dtype in ('bfloat16', 'float16'):
    raise ArgumentError(
      f"model.param_dtype={dtype!r} is too coarse for optimizer.name={name!r}: use 'float32'"
    )


def leaves(config: Config, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields the dotted key and the value of everything in a config."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value
