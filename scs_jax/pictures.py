"""Pictures of what a network learned: its kernels, and what they find in an image.

Red is positive and blue negative; every tile has its own scale, symmetric about 0.
"""

import math

import numpy as np
from etils import epath
from flax import nnx

from scs_jax.errors import ArgumentError

COLOURS = 'RdBu_r'


def draw(model: nnx.Module, image: np.ndarray, folder: epath.Path) -> None:
  """Draws the kernels of a model's first layer, and their responses to one image.

  Args:
    model: has a `first_layer` with a `kernel` `[height, width, in, out]`.
    image: `[height, width, channels]`, 0 to 1.
    folder: gets `kernels.png` and `feature_maps.png`.

  Raises:
    ArgumentError: the model has no such layer.
  """
  layer = getattr(model, 'first_layer', None)
  if layer is None:
    raise ArgumentError(f'{type(model).__name__} has no attribute first_layer')
  if not hasattr(layer, 'kernel'):  # a stack may begin with a pool
    raise ArgumentError('the first layer has no kernels')
  folder.mkdir(parents=True, exist_ok=True)
  draw_kernels(np.asarray(layer.kernel[...], np.float32), folder / 'kernels.png')
  maps = nnx.jit(layer)(image[None])[0]
  draw_feature_maps(image, np.asarray(maps, np.float32), folder / 'feature_maps.png')


def draw_kernels(kernel: np.ndarray, path: epath.Path) -> None:
  """Draws every kernel as a small picture.

  Args:
    kernel: `[height, width, in, out]`. With 1 input feature kernels are drawn signed, with 3 as
      colours, otherwise each input feature gets a row.
    path: the PNG to write.
  """
  import matplotlib.pyplot as plt  # late: it takes a second, and most imports draw nothing

  inputs, outputs = kernel.shape[-2:]
  if inputs == 3:
    tiles = [[_coloured(kernel[..., o]) for o in range(outputs)]]
  else:
    tiles = [[kernel[..., i, o] for o in range(outputs)] for i in range(inputs)]
  if len(tiles) == 1:
    columns = math.ceil(math.sqrt(2 * outputs))
    tiles = [tiles[0][i : i + columns] for i in range(0, outputs, columns)]
  figure = _grid(plt, tiles)
  _save(plt, figure, path)


def draw_feature_maps(image: np.ndarray, maps: np.ndarray, path: epath.Path) -> None:
  """Draws an image and the signed response of every kernel to it.

  Args:
    image: `[height, width, channels]`, 0 to 1.
    maps: `[height', width', features]`.
    path: the PNG to write.
  """
  import matplotlib.pyplot as plt

  columns = math.ceil(math.sqrt(2 * (maps.shape[-1] + 1)))
  tiles = [np.broadcast_to(image, (*image.shape[:2], 3))]  # grey as it is
  tiles += [maps[..., i] for i in range(maps.shape[-1])]
  figure = _grid(plt, [tiles[i : i + columns] for i in range(0, len(tiles), columns)])
  _save(plt, figure, path)


def _grid(plt, tiles):
  rows, columns = len(tiles), max(map(len, tiles))
  figure, axes = plt.subplots(
    rows, columns, figsize=(columns, rows), squeeze=False, layout='compressed'
  )
  for axis in axes.flat:
    axis.set_axis_off()
  for axes_row, row in zip(axes, tiles, strict=True):
    for axis, tile in zip(axes_row, row, strict=False):
      limit = max(np.abs(tile).max(), 1e-12)
      axis.imshow(tile, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation='nearest')
  return figure


def _coloured(kernel: np.ndarray) -> np.ndarray:
  """Maps a kernel `[height, width, 3]` to colours, 0 to grey."""
  return 0.5 + 0.5 * kernel / max(np.abs(kernel).max(), 1e-12)


def _save(plt, figure, path):
  with path.open('wb') as file:
    figure.savefig(file, dpi=120, format='png')
  plt.close(figure)
