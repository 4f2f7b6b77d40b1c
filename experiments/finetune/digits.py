"""The handwritten digits that come with scikit-learn, as images like those of MNIST."""

from typing import Any

import jax
import numpy as np
import sklearn.datasets

from scs_jax.data import Examples

CLASSES, TESTED = 10, 80  # images of each class that are tested; they are the last ones
_SIDE, _MARGIN = 20, 4  # MNIST's digits fill 20 x 20 of 28 x 28 pixels


def load(labelled: int | None, seed: int) -> tuple[Examples, Examples]:
  """Returns training and test examples, 28 x 28 x 1.

  The test examples are always the same.

  Args:
    labelled: training images of each class; None means all that are not tested.
    seed: chooses them.
  """
  digits: Any = sklearn.datasets.load_digits()
  images, labels = as_mnist(digits.images), digits.target.astype(np.int32)
  rng = np.random.default_rng(seed)
  members = [np.flatnonzero(labels == label) for label in range(CLASSES)]
  training = np.concatenate([rng.permutation(rows[:-TESTED])[:labelled] for rows in members])
  testing = np.concatenate([rows[-TESTED:] for rows in members])
  names = tuple(map(str, range(CLASSES)))
  chosen = (Examples(images[rows], labels[rows], CLASSES, names) for rows in (training, testing))
  return next(chosen), next(chosen)


def as_mnist(images: np.ndarray) -> np.ndarray:
  """Returns uint8 `[n, 28, 28, 1]` for images `[n, 8, 8]` from 0 to 16, 0 being the background."""
  large = jax.image.resize(images, (len(images), _SIDE, _SIDE), 'linear')
  pixels = np.clip(np.round(np.asarray(large) * 255 / 16), 0, 255).astype(np.uint8)
  margins = ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
  return np.pad(pixels, margins)[..., None]
