"""Pictures of what a network learned: its kernels, and their responses to an image.

Red is positive and blue negative. Every tile has its own scale, symmetric about 0.
"""

import math
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from etils import epath
from flax import nnx

from scs_jax.errors import ArgumentError

COLOURS = 'RdBu_r'


def draw(model: nnx.Module, image: np.ndarray, folder: epath.Path, name: str = 'image') -> None:
  """Draws the kernels of a model's first layer, and their responses to one image.

  Args:
    model: has a `first_layer` with a `kernel` `[height, width, in, out]`.
    image: `[height, width, channels]`, 0 to 1.
    folder: gets `kernels.png` and `feature_maps.png`.
    name: of the image, e.g. its class.

  Raises:
    ArgumentError: the model has no such layer.
  """
  layer = getattr(model, 'first_layer', None)
  if layer is None:
    raise ArgumentError(f'{type(model).__name__} has no attribute first_layer')
  if not hasattr(layer, 'kernel'):  # a stack may begin with a pool
    raise ArgumentError('the first layer has no kernels')
  folder.mkdir(parents=True, exist_ok=True)
  kernel = np.asarray(layer.kernel[...], np.float32)
  exponents = np.broadcast_to(getattr(layer, 'p', np.nan), kernel.shape[-1:])
  draw_kernels(kernel, folder / 'kernels.png', exponents)
  maps = nnx.jit(layer)(image[None])[0]
  draw_feature_maps(image, np.asarray(maps, np.float32), folder / 'feature_maps.png', name)


def draw_kernels(kernel: np.ndarray, path: epath.Path, p: np.ndarray | None = None) -> None:
  """Draws every kernel as a small picture.

  Args:
    kernel: `[height, width, in, out]`. With 1 input feature kernels are drawn signed, with 3 as
      colours; otherwise each input feature gets a row.
    path: the PNG to write.
    p: `[out]`, the exponents, written above the kernels.
  """
  import matplotlib.pyplot as plt  # late: it takes a second, and most imports draw nothing

  inputs, outputs = kernel.shape[-2:]
  if inputs == 3:
    rows = [[_coloured(kernel[..., o]) for o in range(outputs)]]
  else:
    rows = [[kernel[..., i, o] for o in range(outputs)] for i in range(inputs)]
  names = [[''] * outputs for _ in rows]
  if p is not None and np.isfinite(p).all():
    names[0] = [f'p = {value:.2f}' for value in p]
  if len(rows) == 1:
    columns = math.ceil(math.sqrt(2 * outputs))
    starts = range(0, outputs, columns)
    rows = [rows[0][i : i + columns] for i in starts]
    names = [names[0][i : i + columns] for i in starts]
  meaning = 'grey is 0' if inputs == 3 else 'red positive, blue negative'
  figure = _grid(plt, rows, names, f'Kernels of the first layer: {meaning}, each its own scale')
  _save(plt, figure, path)


def draw_feature_maps(
  image: np.ndarray, maps: np.ndarray, path: epath.Path, name: str = 'image'
) -> None:
  """Draws an image and the signed response of every kernel to it.

  Args:
    image: `[height, width, channels]`, 0 to 1. Of four channels the first three are shown, of
      another number but 1 and 3 the mean.
    maps: `[height', width', features]`.
    path: the PNG to write.
    name: written above the image. A long one is cut.
  """
  import matplotlib.pyplot as plt

  columns = math.ceil(math.sqrt(2 * (maps.shape[-1] + 1)))
  tiles = [_shown(image), *np.moveaxis(maps, -1, 0)]
  largest = np.abs(maps).max((0, 1))
  names = [short(name), *(f'±{value:.2g}' for value in largest)]
  starts = range(0, len(tiles), columns)
  rows = [tiles[i : i + columns] for i in starts]
  titles = [names[i : i + columns] for i in starts]
  title = 'Responses of the first layer: red positive, blue negative, largest magnitude above'
  _save(plt, _grid(plt, rows, titles, title), path)


def draw_explanations(
  images: np.ndarray,
  names: Sequence[str],
  contributions: Sequence[np.ndarray],
  scores: Sequence[Sequence[str]],
  error: str,
  file: BinaryIO,
) -> None:
  """Draws images and, beside each, what its pixels contribute to some logits, on one scale.

  Args:
    images: `[n, height, width, channels]`, 0 to 1.
    names: of the images, e.g. their classes.
    contributions: of the pixels, `[n, height, width]`, once for each explained logit.
    scores: what is written above each of them: the class, its logit and the parts of the sum.
    error: what the title says about their sums.
    file: the PNG is written into it.
  """
  import matplotlib.pyplot as plt

  across = 1 if len(images) == 1 else 2  # images in a row
  rows, width = math.ceil(len(images) / across), 1 + len(contributions)
  figure, axes = plt.subplots(
    rows, across * width, figsize=(1.2 * across * width + 0.7, 1.45 * rows + 0.6),
    squeeze=False, layout='compressed',
  )  # fmt: skip
  figure.suptitle(
    'Image, and what each pixel adds to a logit: red for the class, blue against it\n'
    f'logit = positive and negative contributions + constant; {error}',
    fontsize=7,
  )
  sizes = np.abs(contributions)
  # A few pixels may contribute far more than all others. They get the last colour.
  limit = max(np.quantile(sizes[sizes > 0], 0.995) if sizes.any() else 0, 1e-12)
  for axis in axes.flat:
    axis.set_axis_off()
  for i, image in enumerate(images):
    places = axes[i // across, i % across * width :][:width]
    places[0].imshow(_shown(image), vmin=0, vmax=1, interpolation='nearest')
    places[0].set_title(short(names[i]), fontsize=6, pad=2)
    for place, maps, texts in zip(places[1:], contributions, scores, strict=True):
      place.imshow(maps[i], cmap=COLOURS, vmin=-limit, vmax=limit, interpolation='nearest')
      place.set_title(texts[i], fontsize=6, pad=2)
  scale = plt.cm.ScalarMappable(cmap=COLOURS)
  scale.set_clim(-limit, limit)
  bar = figure.colorbar(scale, ax=axes, shrink=0.5, aspect=30, extend='both')
  bar.ax.tick_params(labelsize=6)
  figure.savefig(file, dpi=150, format='png')
  plt.close(figure)


def short(name: str) -> str:
  """Returns a title, cut if it is long; a dollar sign begins no formula."""
  short = name if len(name) <= 12 else f'{name[:11]}…'
  return short.replace('$', r'\$')


def _shown(image: np.ndarray) -> np.ndarray:
  """Returns an image in three channels.

  Of four channels the first three are shown, of another number but 1 and 3 the mean.
  """
  channels = image.shape[-1]
  if channels == 4:
    image = image[..., :3]
  elif channels not in (1, 3):
    image = image.mean(-1, keepdims=True)
  return np.broadcast_to(image, (*image.shape[:2], 3))  # grey images stay grey


def _grid(plt: Any, rows: list[list[np.ndarray]], names: list[list[str]], title: str) -> Any:
  """Returns a figure of tiles, each with its name above it."""
  columns = max(map(len, rows))
  figure, axes = plt.subplots(
    len(rows), columns, figsize=(columns, 1.2 * len(rows)), squeeze=False, layout='compressed'
  )
  figure.suptitle(title, fontsize=7)
  for axis in axes.flat:
    axis.set_axis_off()
  for axes_row, row, names_row in zip(axes, rows, names, strict=True):
    for axis, tile, name in zip(axes_row, row, names_row, strict=False):
      limit = max(np.abs(tile).max(), 1e-12)
      axis.imshow(tile, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation='nearest')
      axis.set_title(name, fontsize=6, pad=2)
  return figure


def _coloured(kernel: np.ndarray) -> np.ndarray:
  """Maps a kernel `[height, width, 3]` to colours; 0 becomes grey."""
  return 0.5 + 0.5 * kernel / max(np.abs(kernel).max(), 1e-12)


def _save(plt: Any, figure: Any, path: epath.Path) -> None:
  with path.open('wb') as file:
    figure.savefig(file, dpi=120, format='png')
  plt.close(figure)
