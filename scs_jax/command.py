"""Runs a command: an error that a user can mend is one line, any other keeps its traceback."""

import functools
import io
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from scs_jax.errors import ArgumentError, UserError, nearest

_HELP = r'--?(h|\?|help\w*)(=.*)?'


def run(
  main: Callable[[Any], None],
  parse: Callable[[list[str]], Any] = flags.FLAGS,
  usage: Callable[[], str] | None = None,
) -> None:
  """Runs `main` with what `parse` makes of the command line, and ends the process.

  Args:
    main: takes what `parse` returns.
    parse: parses absl's flags in the words of the command line.
    usage: returns what `--help` prints; None is the docstring of the program and its flags.
  """
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')  # names may have letters that it lacks
  try:
    if any(re.fullmatch(_HELP, word) for word in sys.argv[1:]):
      if usage is None:
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
      else:
        show(usage())
      sys.exit()
    app.run(functools.partial(_quietly, main), flags_parser=functools.partial(parsed, parse))
  except UserError as error:
    sys.exit(f'error: {one_line(error)}')
  finally:
    show()  # what the output holds back


def show(*texts: object) -> None:
  """Prints lines at once; a reader may leave before their end, as `| head` does."""
  try:
    print(*texts, sep='\n', end='\n' if texts else '', flush=True)
  except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held back
    if not isinstance(error, BrokenPipeError):
      sys.exit(f'error: the output cannot be written: {error.strerror}')


def _quietly(main: Callable[[Any], None], given: Any) -> None:
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # commands print what a user wants to know
  main(given)


def parsed(parse: Callable[[list[str]], Any], argv: list[str]) -> Any:
  """Returns `parse(argv)`; raises ArgumentError if a flag is unknown or has a wrong value."""
  try:
    return parse(argv)
  except flags.UnrecognizedFlagError as error:
    near = nearest(error.flagname, [name for name in flags.FLAGS if len(name) > 1])
    hint = f'did you mean --{near}? ' if near else ''
    raise ArgumentError(f'unknown flag --{error.flagname}; {hint}--help lists all') from error
  except flags.Error as error:
    raise ArgumentError(str(error)) from error
  except ValueError as error:
    if not str(error).endswith('does not take an argument'):  # `--noNAME=VALUE`
      raise
    raise ArgumentError(f'{error}: leave out the value') from error


def one_line(error: UserError) -> str:
  """Returns an error with its notes as one line.

  If it came out of a file of the user that this package called, such as a model, the line ends with
  that file and its line.
  """
  # JAX adds a note about its own traceback, behind a dashed line.
  notes = [note for note in getattr(error, '__notes__', ()) if not note.startswith('---')]
  place = _place_in_users_file(error)
  lines = '\n'.join([str(error), *notes, *([f'({place})'] if place else [])]).splitlines()
  return ' '.join(line.strip() for line in lines)


def _place_in_users_file(error: BaseException) -> str:
  package = os.path.dirname(__file__)
  installed = (*sysconfig.get_paths().values(), '<')
  called, place = False, ''
  for frame in traceback.extract_tb(error.__traceback__):
    if frame.filename.startswith(package):
      called = called or frame.filename != __file__  # that one calls the command itself
    elif called and not frame.filename.startswith(installed):
      place = f'{frame.filename}, line {frame.lineno}'
  return place
