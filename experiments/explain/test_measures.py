"""Measures on cases whose result is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.explain import measures


def test_a_grid_holds_the_surest_images_of_different_classes():
  labels = np.repeat(np.arange(5), 4)
  images = (np.arange(20.0)[:, None, None, None] * np.ones((1, 2, 3, 1))).astype(np.float32)
  sure = np.tile([0.1, 0.9, 0.8, 0.2], 5)
  found, classes = measures.grids(images, labels, sure, 2, 2, seed=0)
  assert found.shape == (2, 4, 6, 1)
  for grid, row in zip(found, classes, strict=True):
    assert len(set(row)) == 4
    numbers = grid[::2, ::3, 0].ravel()
    np.testing.assert_array_equal(labels[numbers.astype(int)], row)
    assert set(numbers % 4) <= {1, 2}
    np.testing.assert_array_equal(grid[:2, :3, 0], numbers[0])


def test_localisation_is_the_share_of_the_positive_part():
  attributions = np.full((1, 4, 4), -1.0)
  attributions[0, 0, 3] = 3  # in the second cell
  attributions[0, 2, 2] = 1  # in the last
  np.testing.assert_allclose(measures.localisation(attributions, 2), [[0, 0.75, 0, 0.25]])
  np.testing.assert_array_equal(measures.localisation(-np.ones((1, 4, 4)), 2), 0)


def test_a_perfect_method_scores_1_and_a_blind_one_chance():
  pictures, classes = np.zeros((3, 4, 4, 1)), np.tile(np.arange(4), (3, 1))

  def perfect(x, chosen):
    found = np.zeros((len(x), 2, 2, 2, 2))
    found[np.arange(len(x)), chosen // 2, :, chosen % 2] = 1
    return found.reshape(-1, 4, 4)

  assert measures.grid_score(perfect, pictures, classes, 2) == 1
  blind = lambda x, chosen: np.ones(x.shape[:3])
  assert measures.grid_score(blind, pictures, classes, 2) == pytest.approx(0.25)


def test_deletion_takes_the_largest_first():
  images = np.zeros((250, 10, 10, 1), np.float32)
  images[:, 0, 0] = 50.0
  network = lambda x: jnp.stack([x.sum((1, 2, 3)), jnp.zeros(len(x))], 1)
  attributions = images[..., 0]
  classes = np.zeros(250, int)
  deleted, inserted = measures.curves(network, images, classes, attributions)
  np.testing.assert_allclose(deleted, [1] + [0.5] * 9, atol=1e-6)
  np.testing.assert_allclose(inserted, [0.5] + [1] * 9, atol=1e-6)
  assert measures.area(deleted) == pytest.approx(0.5 + 0.01 / 4)
