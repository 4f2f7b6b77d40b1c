"""Splits in the syntax of TFDS, such as 'train[:90%]', of any data set."""

import bisect
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from scs_jax.data.examples import Examples
from scs_jax.data.sharing import Whole
from scs_jax.data.tfds import import_tfds
from scs_jax.errors import ArgumentError


def cut(
  name: str,
  split: str,
  num_classes: int,
  shard_lengths: Mapping[str, Sequence[int]],
  read: Callable[[str], Whole],
  class_names: Sequence[str] | None = None,
) -> Examples:
  """Returns a split in the syntax of TFDS, cut from the base splits of a data set.

  Args:
    name: of the data set, for error messages.
    split: for example `'train[:90%]'`.
    num_classes: the number of classes of the data set.
    shard_lengths: the number of examples in each file of each base split.
    read: returns a base split.
    class_names: the names of the classes, if they have any.

  Raises:
    ArgumentError: the split is unknown, misspelt or empty, or a label is outside the classes.
  """
  pieces = slices(name, split, shard_lengths)
  whole = {base: read(base) for base in {base for base, _, _ in pieces}}
  parts = []
  for base, start, stop in pieces:
    part = whole[base]
    start, stop = (n - bisect.bisect_left(part.bad, n) for n in (start, stop))
    parts.append((part.images[start:stop], part.labels[start:stop]))
  images, labels = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
  try:
    return Examples(images, labels, num_classes, class_names)
  except ArgumentError as error:
    error.add_note(where(name, split))
    raise


def slices(
  name: str, split: str, shard_lengths: Mapping[str, Sequence[int]]
) -> list[tuple[str, int, int]]:
  """Translates a split to slices `(base split, start, stop)`, none of them empty.

  Args:
    name: of the data set, for error messages.
    split: for example `'train[:90%]'`.
    shard_lengths: the number of examples in each file of each base split.

  Raises:
    ArgumentError: the split is unknown, misspelt or empty.
  """
  sizes = {base: sum(lengths) for base, lengths in shard_lengths.items()}
  if split in sizes:  # this common case does not need TFDS
    pieces = [(split, 0, sizes[split])]
  else:
    core = import_tfds().core
    infos = {
      base: core.SplitInfo(name=base, shard_lengths=list(lengths), num_bytes=0)
      for base, lengths in shard_lengths.items()
    }
    try:
      absolute = core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
      raise ArgumentError(
        f'split={split!r} cannot be read from the data set {name!r}. Its splits and their sizes '
        f"are {sizes}. Write for example data.train_split='train[:90%]' and "
        f"data.eval_split='train[90%:]'. TFDS says: {' '.join(str(error).split())}"
      ) from None
    pieces = [
      (s.splitname, s.from_ or 0, sizes[s.splitname] if s.to is None else s.to) for s in absolute
    ]
  pieces = [s for s in pieces if s[1] < s[2]]
  if not pieces:
    raise ArgumentError(
      f'split={split!r} of the data set {name!r} is empty. Its splits and their sizes are {sizes}. '
      'Choose a slice with at least one example'
    )
  return pieces


def where(name: str, split: str) -> str:
  """Returns a note for errors about the examples of a split."""
  return f'This is split={split!r} of the data set name={name!r}.'
