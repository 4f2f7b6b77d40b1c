"""The type of a data set in memory."""

import dataclasses
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from scs_jax.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled images, all in memory.

  Attributes:
    images: `[n, height, width, channels]`, uint8. Black is 0.
    labels: `[n]`, integers in `[0, num_classes)`. They are kept as int32.
    num_classes: the number of classes of the data set. Some may have no example here. By default
      the number of `class_names`, or else the largest label plus 1.
    class_names: the names of the classes, in the order of their labels; None if they have none.

  Raises:
    ArgumentError: an attribute is not as described, or `n` is 0.

  Example:
    >>> import numpy as np
    >>> from scs_jax.data import Examples
    >>> images = np.zeros((2, 28, 28, 1), np.uint8)
    >>> examples = Examples(images, labels=np.array([3, 7]), num_classes=10)
    >>> examples.size, examples.image_shape
    (2, (28, 28, 1))
  """

  images: np.ndarray
  labels: np.ndarray
  num_classes: int = None  # pyright: ignore[reportAssignmentType]  # replaced by its default
  class_names: Sequence[str] | None = None

  @property
  def size(self) -> int:
    """The number of examples."""
    return len(self.labels)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)`."""
    return self.images.shape[1:]

  def __post_init__(self) -> None:
    images, labels, names = self.images, self.labels, self.class_names
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype != np.uint8:
      raise ArgumentError(
        f'images must be uint8 of shape [n, height, width, channels], got {_description(images)}'
      )
    if (
      not isinstance(labels, np.ndarray)
      or labels.shape != images.shape[:1]
      or labels.dtype.kind not in 'iu'  # a time is an integer for np.issubdtype
    ):
      raise ArgumentError(
        f'labels must be int32 or other integers of shape {images.shape[:1]}, one for each image, '
        f'got {_description(labels)}'
      )
    if not images.size:
      raise ArgumentError(
        f'images has shape {images.shape}; pass at least one example, of at least one pixel'
      )
    count = self.num_classes
    if count is None:
      count = int(labels.max()) + 1 if names is None else len(names)
    check_labels(labels, count)
    if names is not None:
      object.__setattr__(self, 'class_names', check_names(names, count))
    object.__setattr__(self, 'labels', labels.astype(np.int32, copy=False))
    object.__setattr__(self, 'num_classes', count)


def check_labels(
  labels: np.ndarray, num_classes: int, numbers: Sequence[int] | None = None
) -> None:
  """Raises ArgumentError unless all labels are in `[0, num_classes)`.

  Args:
    labels: `[n]`, integers.
    num_classes: the number of classes.
    numbers: of the `n` examples, for the message; by default 0 to n − 1.
  """
  outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if len(outside):
    first = outside[0] if numbers is None else numbers[outside[0]]
    raise ArgumentError(
      f'labels must be at least 0 and below num_classes={num_classes}, but {len(outside)} of '
      f'{len(labels)} are not, such as labels[{first}]={labels[outside[0]]}. Some data sets mark '
      'hidden labels by -1: choose a split with labels'
    )


def check_names(names: Sequence[str], num_classes: int) -> tuple[str, ...]:
  """Returns the names of the classes as a tuple.

  Raises:
    ArgumentError: they are not `num_classes` different strings.
  """
  strings = not isinstance(names, str) and all(
    isinstance(name, str) and name.strip() for name in names
  )
  if not strings or len(names) != num_classes or len(set(names)) != num_classes:
    raise ArgumentError(
      f'class_names must be {num_classes} different strings, one for each class in the order of '
      f'their labels and none blank, got {reprlib.repr(names)}'
    )
  return tuple(names)


def _description(value: Any) -> str:
  if isinstance(value, np.ndarray):
    return f'{value.dtype} of shape {value.shape}'
  return f'{type(value).__name__}, which is not a NumPy array'
