"""Draws a grid of images and what every method says about one of its cells."""

import pathlib
from collections.abc import Mapping

import jax
import matplotlib.pyplot as plt
import numpy as np

import scs_jax
from experiments.explain import measures
from experiments.explain.methods import methods
from scs_jax import data

SIDE = 2


def draw(name: str, folders: Mapping[str, pathlib.Path], path: pathlib.Path) -> None:
  """Draws a row for each network: a grid of its surest images, and every method for each cell.

  Args:
    name: of the data set.
    folders: of the trained networks, by variant.
    path: the PNG.
  """
  test = data.load(name, 'test')
  images = test.images.astype(np.float32) / 255
  columns = 1 + SIDE**2
  figure, axes = plt.subplots(
    3 * len(folders), columns, figsize=(1.5 * columns, 4.9 * len(folders)), layout='compressed'
  )
  for axis in axes.flat:
    axis.set_axis_off()
  for block, (variant, folder) in enumerate(folders.items()):
    model = scs_jax.load(folder)
    network = jax.jit(lambda x, model=model: model(x))
    sure = measures.probabilities(network, images)[np.arange(test.size), test.labels]
    grids, classes = measures.grids(images, test.labels, sure, SIDE, 20, seed=0)
    x = np.repeat(grids[:1], SIDE**2, 0)
    for row, (label, method) in enumerate(methods(model).items()):
      place = axes[3 * block + row]
      place[0].imshow(np.broadcast_to(grids[0], (*grids[0].shape[:2], 3)))
      place[0].set_title(f'{variant}: {label}', fontsize=7)
      maps = np.asarray(method(x, classes[0]))
      limit = np.quantile(np.abs(maps), 0.995)
      scores = measures.localisation(maps, SIDE)
      for cell in range(SIDE**2):
        axis = place[1 + cell]
        axis.imshow(maps[cell], cmap='RdBu_r', vmin=-limit, vmax=limit, interpolation='nearest')
        middle_y, middle_x = (size / SIDE - 0.5 for size in maps.shape[1:])
        axis.axhline(middle_y, color='black', linewidth=0.5)
        axis.axvline(middle_x, color='black', linewidth=0.5)
        axis.set_title(
          f'cell {cell + 1}: {test.class_names[classes[0][cell]] if test.class_names else ""} '
          f'{scores[cell, cell]:.0%}',
          fontsize=7,
        )
  figure.savefig(path, dpi=110)
  plt.close(figure)
