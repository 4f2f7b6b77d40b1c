"""Measures of attributions: localisation on grids of images, deletion and insertion."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from experiments.explain.methods import Method

Network = Callable[[jax.Array], jax.Array]  # images to logits

# Shares of the pixels that are deleted or inserted.
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def probabilities(network: Network, images: np.ndarray, batch: int = 250) -> np.ndarray:
  """Returns the softmax of the logits, `[n, num_classes]`; `n` is a multiple of `batch`."""
  parts = (images[i : i + batch] for i in range(0, len(images), batch))
  return np.concatenate([np.asarray(jax.nn.softmax(network(part))) for part in parts])


def grids(
  images: np.ndarray, labels: np.ndarray, sure: np.ndarray, side: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns grids of images of different classes, and the classes of their cells.

  Args:
    images: `[n, height, width, channels]`.
    labels: `[n]`.
    sure: `[n]`, the probability of the label; of each class the `count` surest images are used.
    side: images along each side of a grid.
    count: grids.
    seed: of the choice.

  Returns:
    `[count, side * height, side * width, channels]` and `[count, side ** 2]`, cells row by row.
  """
  rng = np.random.default_rng(seed)
  order = np.argsort(-sure, kind='stable')
  best = {c: order[labels[order] == c][:count] for c in np.unique(labels)}
  classes = np.stack([rng.permutation(list(best))[: side**2] for _ in range(count)])
  chosen = np.stack([[rng.choice(best[c]) for c in row] for row in classes])
  _, height, width, channels = images.shape
  cells = images[chosen].reshape(count, side, side, height, width, channels)
  whole = cells.transpose(0, 1, 3, 2, 4, 5)
  return whole.reshape(count, side * height, side * width, channels), classes


def localisation(attributions: np.ndarray, side: int) -> np.ndarray:
  """Returns the share of the positive attribution that lies in each cell (GridPG).

  Args:
    attributions: `[n, side * height, side * width]`.
    side: cells along each side.

  Returns:
    `[n, side ** 2]`, cells row by row; chance is `1 / side ** 2`. Without positive attribution it
    is 0.
  """
  n, height, width = attributions.shape
  positive = np.maximum(attributions, 0).astype(np.float64)
  cells = positive.reshape(n, side, height // side, side, width // side).sum((2, 4))
  total = cells.sum((1, 2), keepdims=True)
  return np.divide(cells, total, out=np.zeros_like(cells), where=total > 0).reshape(n, side**2)


def grid_score(
  method: Method, pictures: np.ndarray, classes: np.ndarray, side: int, batch: int = 4
) -> float:
  """Returns the mean localisation over all cells: each cell's class is explained once."""
  scores = []
  for i in range(0, len(pictures), batch):
    x = np.repeat(pictures[i : i + batch], side**2, 0)
    found = np.asarray(method(x, classes[i : i + batch].ravel()))
    where = np.tile(np.arange(side**2), len(x) // side**2)
    scores.append(localisation(found, side)[np.arange(len(x)), where])
  return float(np.concatenate(scores).mean())


def curves(
  network: Network, images: np.ndarray, classes: np.ndarray, attributions: np.ndarray
) -> tuple[list[float], list[float]]:
  """Returns the mean probability of the classes while pixels are deleted, and while inserted.

  Pixels of large attribution come first. A deleted pixel is black; insertion starts from a black
  image.

  Args:
    network: images to logits.
    images: `[n, height, width, channels]`; `n` is a multiple of 250.
    classes: `[n]`.
    attributions: `[n, height, width]`.

  Returns:
    One probability for each of `SHARES`, twice.
  """
  n, height, width, _ = images.shape
  order = np.argsort(-attributions.reshape(n, -1), axis=1, kind='stable')
  rank = np.argsort(order, axis=1).reshape(n, height, width, 1)
  deleted, inserted = [], []
  for share in SHARES:
    first = rank < round(share * height * width)
    for found, kept in ((deleted, ~first), (inserted, first)):
      chosen = probabilities(network, (images * kept).astype(np.float32))[np.arange(n), classes]
      found.append(float(chosen.mean()))
  return deleted, inserted


def area(values: Sequence[float]) -> float:
  """Returns the area under a curve over `SHARES`."""
  return float(np.trapezoid(values, SHARES))
