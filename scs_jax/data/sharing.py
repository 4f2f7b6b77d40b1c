"""Splits in memory, of which every slice is a view: two slices of one split share its images."""

import dataclasses
import weakref
from collections.abc import Callable, Hashable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Whole:
  """All examples of a base split.

  Attributes:
    images: `[n, height, width, channels]` uint8.
    labels: `[n]` int32.
    bad: the numbers of records that are left out. The others have their places in order.
  """

  images: np.ndarray
  labels: np.ndarray
  bad: Sequence[int] = ()


# The arrays live as long as somebody uses them, or a slice of them.
_images: weakref.WeakValueDictionary[Hashable, np.ndarray] = weakref.WeakValueDictionary()
_labels: weakref.WeakValueDictionary[Hashable, np.ndarray] = weakref.WeakValueDictionary()
_bad: dict[Hashable, Sequence[int]] = {}


def shared(key: Hashable, read: Callable[[], Whole]) -> Whole:
  """Returns the split that is already in memory under this key, or reads it.

  Args:
    key: tells the content of the split from that of every other.
    read: returns the split.

  Returns:
    the split. Its arrays cannot be written to, since others may use them.
  """
  images, labels = _images.get(key), _labels.get(key)
  if images is not None and labels is not None:
    return Whole(images, labels, _bad[key])
  whole = read()
  # A slice keeps the array alive that owns the memory. That array is the one to remember.
  images, labels = (np.require(a, requirements=['C', 'O']) for a in (whole.images, whole.labels))
  images.flags.writeable = labels.flags.writeable = False
  _images[key], _labels[key], _bad[key] = images, labels, whole.bad
  return Whole(images, labels, whole.bad)
