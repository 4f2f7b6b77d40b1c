"""Errors that a user can mend. A leaf: every room may import it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """Something that a user can mend.

  Its message names the argument, what it was, and the remedy. The command line prints it as one
  line; any other exception keeps its traceback.
  """


class ArgumentError(UserError, ValueError):
  """A value that cannot work."""


class MissingPackageError(UserError, ImportError):
  """A package that an extra of this one installs is absent."""


def check_known(what: str, name: object, known: Iterable[str]) -> None:
  """Raises ArgumentError unless `name` is in `known`; the message suggests the nearest name.

  Args:
    what: what the name is for, as it should appear in the message, e.g. 'method'.
    name: the name that was given.
    known: the names there are.
  """
  known = list(known)
  if name in known:
    return
  near = difflib.get_close_matches(str(name), known, n=1)
  hint = f'did you mean {near[0]!r}? ' if near else ''
  raise ArgumentError(f'unknown {what} {name!r}; {hint}known: {", ".join(map(str, known))}')
