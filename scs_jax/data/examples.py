"""The type of a data set in memory."""

import dataclasses
from typing import Any

import numpy as np

from scs_jax.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled images, all in memory.

  Attributes:
    images: `[n, height, width, channels]`, uint8. Black is 0.
    labels: `[n]`, int32, in `[0, num_classes)`.
    num_classes: the number of classes of the data set. Some may have no example here.

  Raises:
    ArgumentError: an attribute is not as described, or `n` is 0.

  Example:
    >>> import numpy as np
    >>> from scs_jax.data import Examples
    >>> images = np.zeros((2, 28, 28, 1), np.uint8)
    >>> examples = Examples(images, labels=np.array([3, 7], np.int32), num_classes=10)
    >>> examples.size, examples.image_shape
    (2, (28, 28, 1))
  """

  images: np.ndarray
  labels: np.ndarray
  num_classes: int

  @property
  def size(self) -> int:
    """The number of examples."""
    return len(self.labels)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)`."""
    return self.images.shape[1:]

  def __post_init__(self) -> None:
    images, labels = self.images, self.labels
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype != np.uint8:
      raise ArgumentError(
        f'images must be uint8 of shape [n, height, width, channels], got {_description(images)}'
      )
    if (
      not isinstance(labels, np.ndarray)
      or labels.shape != images.shape[:1]
      or labels.dtype != np.int32
    ):
      raise ArgumentError(
        f'labels must be int32 of shape {images.shape[:1]}, one for each image, '
        f'got {_description(labels)}'
      )
    if not len(labels):
      raise ArgumentError(f'images has shape {images.shape}; pass at least one example')
    outside = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
    if len(outside):
      raise ArgumentError(
        f'labels must be at least 0 and below num_classes={self.num_classes}, but '
        f'{len(outside)} of {len(labels)} are not, such as labels[{outside[0]}]='
        f'{labels[outside[0]]}. Some data sets mark hidden labels by -1: choose a split with labels'
      )


def _description(value: Any) -> str:
  if isinstance(value, np.ndarray):
    return f'{value.dtype} of shape {value.shape}'
  return f'{type(value).__name__}, which is not a NumPy array'
