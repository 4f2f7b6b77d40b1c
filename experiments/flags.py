"""The flags that experiments share, and the function that runs their commands.

Each function but `run` defines one flag and returns its holder. Call it where a module defines its
other flags.
"""

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from scs_jax import command

flags.disclaim_key_flags()  # --help lists a flag with the module that calls, not with this one


def run(main: Callable[[list[str]], None]) -> None:
  """Runs a command as `scs_jax.command.run` does."""
  command.run(main)


def workdir(required: bool = True) -> flags.FlagHolder[Any]:
  """Defines `--workdir`: a folder for the runs. The value is a string, or None if not required."""
  return _define('workdir', flags.ArgumentParser(), None, 'Gets a folder for each run.', required)


def results() -> flags.FlagHolder[str | None]:
  """Defines `--results`: the file that gets a line for each result."""
  text = 'File that gets a line for each result. By default it is in --workdir.'
  return _define('results', flags.ArgumentParser(), None, text)


def seeds(default: str | Sequence[int] | None) -> flags.FlagHolder[Any]:
  """Defines `--seeds`: the seeds to run. The value is a tuple of integers, or None by default.

  Args:
    default: as typed, e.g. '0-4', or a sequence of integers. None lets the command decide.
  """
  return _define('seeds', _Seeds(), default, 'Seeds to run, such as 0-4 or 0,2.')


def changes() -> flags.FlagHolder[Any]:
  """Defines `--change=KEY=VALUE`, which may be repeated. The value is a dict.

  A value is a Python literal or a word. `Trial.load` checks key and type.
  """
  text = 'KEY=VALUE: a dotted key of the config and its value; may be repeated.'
  flag = _Repeated(_Change(), None, 'change', {}, text)
  return flags.DEFINE_flag(_replaceable(flag))


def _define(
  name: str, parser: flags.ArgumentParser, default: Any, text: str, required: bool = False
) -> flags.FlagHolder:
  flag = _replaceable(flags.Flag(parser, None, name, default, text))
  return flags.DEFINE_flag(flag, required=required)


def _replaceable(flag: flags.Flag) -> flags.Flag:
  flag.allow_override = True  # tests import several commands, each with its own --workdir
  return flag


class _Seeds(flags.ArgumentParser):
  """Parses '0-4' and '0,2'."""

  def parse(self, argument: Any) -> tuple[int, ...]:
    if not isinstance(argument, str):
      return tuple(argument)
    found: list[int] = []
    for word in argument.split(','):
      match = re.fullmatch(r'(\d+)(?:-(\d+))?', word.strip())
      if match is None:
        raise ValueError('seeds are written like 0-4 or 0,2')
      first, last = int(match[1]), int(match[2] or match[1])
      if last < first:
        raise ValueError(f'the range {word.strip()} is empty: write {last}-{first}')
      found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


class _Change(flags.ArgumentParser):
  """Parses 'KEY=VALUE' into a dict of one item."""

  def parse(self, argument: Any) -> dict[str, Any]:
    if not isinstance(argument, str):
      return dict(argument)
    key, equals, value = argument.partition('=')
    if not (key and equals):
      raise ValueError('a change is written KEY=VALUE')
    try:
      return {key: ast.literal_eval(value)}
    except (SyntaxError, ValueError):
      return {key: value}  # a word, such as shared


class _Repeated(flags.Flag):
  """A flag whose dicts are merged."""

  def parse(self, argument: Any) -> None:
    before: dict[str, Any] = (self.value or {}) if self.present else {}
    super().parse({**before, **(self._parse(argument) or {})})
