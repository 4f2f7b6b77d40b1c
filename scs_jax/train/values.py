"""What a value of the config may be, and how a word of the command line becomes one."""

import ast
import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from scs_jax.errors import nearest

_BOOLEANS = {'true': True, 't': True, '1': True, 'false': False, 'f': False, '0': False}


@dataclasses.dataclass(frozen=True)
class Kind:
  """A type with a range.

  Attributes:
    type: of the values, as `ConfigDict` keeps it; `object` takes any.
    what: the type in words, e.g. 'a whole number'.
    convert: maps a value to one of the type; raises TypeError or ValueError if that cannot be.
    parse: maps a word to a value that `convert` takes; raises ValueError or SyntaxError likewise.
    problem: maps a value of the type to what it must be instead, or to '' if it is in range.
    range: the range in words; '' if there is none.
    optional: whether None is a value too.
  """

  type: type
  what: str
  convert: Callable[[Any], Any]
  parse: Callable[[str], Any]
  problem: Callable[[Any], str] = lambda value: ''
  range: str = ''
  optional: bool = False

  def read(self, word: str) -> Any:
    """Returns the value that a word stands for; raises ValueError if it stands for none."""
    if self.optional and (word == 'None' or (self.type is not str and word.lower() == 'none')):
      return None
    try:
      return self.convert(self.parse(word))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
      raise ValueError(f'{self.what}, got {word!r}') from None

  def check(self, value: Any) -> str:
    """Returns what a value must be instead, or '' if it is right."""
    if value is None:
      return '' if self.optional else self.what
    try:
      words = self.problem(self.convert(value))
    except (ValueError, TypeError):
      words = self.what
    return f'{words} or None' if words and self.optional else words


@dataclasses.dataclass(frozen=True)
class Range:
  """An interval of numbers."""

  least: float = -math.inf
  above: float = -math.inf
  below: float = math.inf
  most: float = math.inf
  words: str = ''

  def __contains__(self, value: float) -> bool:
    return self.least <= value <= self.most and self.above < value < self.below

  def __str__(self) -> str:
    if self.words or self == Range():
      return self.words
    if self.below == self.most == math.inf:
      return f'greater than {self.above}' if self.above >= self.least else f'at least {self.least}'
    low = f'({self.above}' if self.above >= self.least else f'[{self.least}'
    return f'in {low}, ' + (f'{self.most}]' if self.most < self.below else f'{self.below})')


def whole(**ends: Any) -> Kind:
  """Integers in a `Range`."""
  allowed = Range(**ends)
  problem = lambda value: '' if value in allowed else str(allowed)
  return Kind(int, 'a whole number', _only(int), int, problem, str(allowed))


def number(**ends: Any) -> Kind:
  """Finite numbers in a `Range`."""
  allowed = Range(**ends)

  def convert(value: Any) -> float:
    try:
      return float(value) if type(value) is int else _only(float)(value)
    except OverflowError:
      return math.inf

  def problem(value: float) -> str:
    if not math.isfinite(value):
      return f'a finite number, {allowed}' if str(allowed) else 'a finite number'
    return '' if value in allowed else str(allowed)

  return Kind(float, 'a number', convert, float, problem, str(allowed))


def boolean() -> Kind:
  """True and False, in the spellings of absl."""

  def parse(word: str) -> bool:
    if word.lower() not in _BOOLEANS:
      raise ValueError
    return _BOOLEANS[word.lower()]

  return Kind(bool, 'true or false', _only(bool), parse)


def text() -> Kind:
  """Any text that is not empty. Quotes round a word are not part of it."""

  def parse(word: str) -> str:
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in '\'"'
    return ast.literal_eval(word) if quoted else word

  problem = lambda value: '' if value.strip() else 'a text that is not empty'
  return Kind(str, 'a text', _only(str), parse, problem)


def choice(names: Iterable[str]) -> Kind:
  """One of some names."""
  known = tuple(names)
  listed = ' or '.join(map(repr, known))

  def problem(value: str) -> str:
    if value in known:
      return ''
    near = nearest(value, known)
    return f'{listed} (did you mean {near!r}?)' if near else listed

  return dataclasses.replace(text(), problem=problem, range=listed)


def dtype() -> Kind:
  """The name of a floating-point type, one that JAX has as it is set up."""
  known = choice(('float32', 'bfloat16', 'float16', 'float64'))

  def problem(value: str) -> str:
    if value == 'float64' and jax.dtypes.canonicalize_dtype(value) != value:
      return "'float32', unless JAX_ENABLE_X64=1 is in the environment"
    return known.problem(value)

  return dataclasses.replace(known, problem=problem)


def maybe(kind: Kind) -> Kind:
  """A kind whose values may be None."""
  return dataclasses.replace(kind, optional=True)


def items(item: Kind) -> Kind:
  """Tuples of one kind. A word without brackets is a tuple too: `3` and `3,4`."""

  def convert(value: Any) -> tuple:
    if not isinstance(value, list | tuple):
      raise TypeError
    return tuple(map(item.convert, value))

  def parse(word: str) -> Any:
    try:
      value = literal(word)
    except (ValueError, SyntaxError):
      if item.type is not str or not word or word[0] in '([{':
        raise
      value = tuple(word.split(','))
    return value if isinstance(value, list | tuple) else (value,)

  def problem(value: tuple) -> str:
    wrong = next(filter(None, map(item.problem, value)), '')
    return wrong and f'a tuple whose values are {wrong}'

  what = f'a tuple whose values are each {item.what}'
  return Kind(tuple, what, convert, parse, problem, item.range and f'each {item.range}')


def pair(**ends: Any) -> Kind:
  """Two numbers in a `Range`, the smaller first."""
  two = items(number(**ends))
  words = f'two numbers (smallest, largest), {two.range}'
  problem = lambda value: (
    '' if len(value) == 2 and not two.check(value) and value[0] <= value[1] else words
  )
  return dataclasses.replace(two, what=words, problem=problem, range=words)


def mapping() -> Kind:
  """Dicts from names to plain values, such as `{'kind': 'head'}`."""

  def convert(value: Any) -> dict:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
      raise TypeError
    return {key: tuples(item) for key, item in value.items()}

  return Kind(object, "a dict such as {'kind': 'head'}", convert, literal)


def anything() -> Kind:
  """A Python literal, or else a text."""

  def parse(word: str) -> Any:
    if word.lower() in ('true', 'false'):
      return _BOOLEANS[word.lower()]
    try:
      return literal(word)
    except (ValueError, SyntaxError):
      return word

  return Kind(object, 'set to a value', tuples, parse)


def either(*kinds: Kind) -> Kind:
  """The first of some kinds that fits. A word in brackets is a tuple before it is a text."""

  def first(method: str, value: Any) -> Any:
    in_brackets = method == 'parse' and value[:1] in ('(', '[')
    for kind in sorted(kinds, key=lambda kind: in_brackets and kind.type is not tuple):
      try:
        parsed = kind.parse(value) if method == 'parse' else value
        return kind.convert(parsed)
      except (ValueError, TypeError, SyntaxError):
        continue
    raise ValueError

  fitting = lambda value: (kind for kind in kinds if type(value) is kind.type)
  return Kind(
    object,
    ' or '.join(kind.what for kind in kinds),
    lambda value: first('convert', value),
    lambda word: first('parse', word),
    lambda value: next((kind.problem(value) for kind in fitting(value)), ''),
  )


def of_annotation(annotation: Any, default: Any = None, least: float = -math.inf) -> Kind:
  """Returns the kind of a function's argument.

  Args:
    annotation: a type, or `inspect.Parameter.empty`.
    default: its default, which decides if there is no annotation. A whole number then does not rule
      out a fraction.
    least: the smallest whole number, alone or in a tuple.
  """
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  whole_number = functools.partial(whole, least=least)
  simple = {int: whole_number, float: number, str: text, bool: boolean}
  if origin in (typing.Union, types.UnionType):
    kinds = [of_annotation(part, None, least) for part in arguments if part is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else either(*kinds)
    return dataclasses.replace(kind, optional=type(None) in arguments)
  if origin is typing.Literal and all(isinstance(name, str) for name in arguments):
    kind = choice(arguments)
  elif annotation in simple:
    kind = simple[annotation]()
  elif _is(origin or annotation, Mapping):
    kind = mapping()
  elif _is(origin or annotation, Sequence):
    kind = items(of_annotation(arguments[0], None, least) if arguments else anything())
  elif type(default) is int:
    kind = either(whole_number(), number())
  elif type(default) in simple:
    kind = simple[type(default)]()
  else:
    kind = items(anything()) if isinstance(default, list | tuple) else anything()
  return dataclasses.replace(kind, optional=default is None)


def _is(annotation: Any, base: type) -> bool:
  return isinstance(annotation, type) and issubclass(annotation, base)


def tuples(value: Any) -> Any:
  """Returns `value` with its lists as tuples, which is what configs have."""
  if isinstance(value, Mapping):
    return {key: tuples(item) for key, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def literal(word: str) -> Any:
  """Returns the value of a Python literal or of JSON; raises ValueError or SyntaxError."""
  try:
    return ast.literal_eval(word)
  except (ValueError, SyntaxError):
    return json.loads(word)


def _only(kind: type) -> Callable[[Any], Any]:
  def convert(value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
      raise TypeError
    return value

  return convert
