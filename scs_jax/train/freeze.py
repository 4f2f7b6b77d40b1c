"""Arrays that training leaves as they are: which ones the patterns of `config.freeze` mean."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax

from scs_jax.errors import ArgumentError, did_you_mean

PyTree = Any


def matches(name: str, patterns: Sequence[str]) -> bool:
  """Whether a pattern means the array of that name, or a part of the network that has it.

  Args:
    name: path of an array, such as 'blocks.0.layers.1.kernel'.
    patterns: names in which `*` stands for any characters, dots among them.

  Example:
    >>> from scs_jax.train.freeze import matches
    >>> [matches(name, ('blocks.0', '*.raw_p')) for name in ('blocks.0.kernel', 'stem.raw_p')]
    [True, True]
    >>> matches('blocks.01.kernel', ('blocks.0',))
    False
  """
  spellings = (spelling for pattern in patterns for spelling in (pattern, f'{pattern}.*'))
  return any(fnmatch.fnmatchcase(name, spelling) for spelling in spellings)


def masks(patterns: Sequence[str], params: PyTree, statistics: PyTree) -> tuple[PyTree, PyTree]:
  """Returns for each parameter and each statistic whether a pattern matches it.

  Args:
    patterns: as in `matches`.
    params: nested dict of arrays or shapes.
    statistics: likewise.

  Raises:
    ArgumentError: a pattern matches nothing, or no parameter is left to train.
  """
  known = names((params, statistics))
  for pattern in patterns:
    if not any(matches(name, (pattern,)) for name in known):
      parts = dict.fromkeys(name.partition('.')[0] for name in known)
      near = did_you_mean(pattern, [*parts, *known])
      raise ArgumentError(
        f'freeze={pattern!r} matches no array of the network{near or ";"} it has '
        f'{", ".join(f"{part}.*" for part in parts)}'
      )
  found = [
    jax.tree_util.tree_map_with_path(lambda path, _: matches(name_of(path), patterns), tree)
    for tree in (params, statistics)
  ]
  if all(jax.tree.leaves(found[0])):
    raise ArgumentError(
      f'freeze={tuple(patterns)} leaves no parameter to train: freeze less, or use --mode=eval'
    )
  return found[0], found[1]


def names(trees: Sequence[PyTree]) -> list[str]:
  """Returns the names of all arrays of some nested dicts, e.g. 'scs_0.kernel'."""
  leaves = (leaf for tree in trees for leaf in jax.tree_util.tree_leaves_with_path(tree))
  return [name_of(path) for path, _ in leaves]


def name_of(path: tuple) -> str:
  """Returns the name of the array at a path of a nested dict."""
  return jax.tree_util.keystr(path, simple=True, separator='.')
