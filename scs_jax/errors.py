"""Says what a misspelt name may have meant. A leaf: every room may import it."""

import difflib
from collections.abc import Iterable


def check_known(what: str, name: object, known: Iterable[str]) -> None:
  """Raises ValueError if `name` is not in `known`: lists what is, the nearest first.

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
  raise ValueError(f'unknown {what} {name!r}; {hint}known: {", ".join(map(str, known))}')
