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
  if name not in known:
    names = ', '.join(map(str, known)) or 'none'
    hint = did_you_mean(name, known) or ';'
    raise ArgumentError(f'unknown {what} {name!r}{hint} known: {names}')


def did_you_mean(name: object, known: Iterable[str]) -> str:
  """Returns "; did you mean 'NAME'?" for the nearest of the known names, or '' if none is near."""
  near = nearest(name, known)
  return f'; did you mean {near!r}?' if near else ''


def nearest(name: object, known: Iterable[str]) -> str:
  """Returns the known name that is most like `name`, or '' if none is.

  Of a dotted name, such as 'optimizer.momentum', the last part alone may be meant.
  """
  known, word = list(known), str(name)
  last = {each.rpartition('.')[2]: each for each in reversed(known)}
  near = difflib.get_close_matches(word, [*known, *last], n=1)
  near = near or difflib.get_close_matches(word.rpartition('.')[2], last, n=1)
  return last.get(near[0], near[0]) if near else ''
