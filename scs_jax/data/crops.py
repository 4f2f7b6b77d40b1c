"""Crops of encoded pictures: which part of a picture is used, scaled to a square.

Each crop takes the result of `images.begin`, the height and width of the square in pixels, and the
number of channels. It returns a picture of that size in the mode of `images.MODES`.
"""

import math

import numpy as np
from PIL import Image

from scs_jax.data import images

# The random crops of Inception, in common use for ImageNet: share of the area, and width / height.
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
_SHORTER_SIDE = 256 / 224  # shorter side of the image over the side of the inner crop
_MOST_PIXELS = 100_000_000  # of a picture that is scaled as a whole

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


def random(
  image: Image.Image, resolution: int, channels: int, rng: np.random.Generator
) -> Image.Image:
  """Takes a random crop, see `random_box`."""
  return _cut(image, resolution, channels, random_box(rng, images.upright_size(image)))


def inner(image: Image.Image, resolution: int, channels: int) -> Image.Image:
  """Takes the square in the middle whose side is 7/8 of the shorter side, as for ImageNet."""
  return _cut(image, resolution, channels, _centre(images.upright_size(image)))


def centre(image: Image.Image, resolution: int, channels: int) -> Image.Image:
  """Scales the shorter side to `resolution` and takes the square in the middle.

  This is what torchvision's Resize and CenterCrop do with a picture of Pillow: bilinear
  interpolation, which averages where it reduces. A square of that size is returned unchanged.

  Raises:
    ValueError: the picture is too long and thin to be scaled in memory.

  References:
    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.Resize.html
  """
  image = images.finish(image, channels)
  shorter = min(image.size)
  width, height = (int(resolution * side / shorter) for side in image.size)
  if width * height > _MOST_PIXELS:
    raise ValueError(f'it is too long and thin to be scaled: {image.width} × {image.height} pixels')
  left, top = (round((side - resolution) / 2) for side in (width, height))
  scaled = image.resize((width, height), Image.Resampling.BILINEAR)
  return scaled.crop((left, top, left + resolution, top + resolution))


def random_box(rng: np.random.Generator, size: tuple[int, int]) -> Box:
  """Returns the box of a crop with random area, aspect ratio and position.

  After ten crops that do not fit, it is the largest square in the middle.

  Args:
    rng: the source of randomness.
    size: `(width, height)` of the image, pixels.

  References:
    Szegedy et al. 2014, Going Deeper with Convolutions, https://arxiv.org/abs/1409.4842
  """
  width, height = size
  for _ in range(10):
    area = width * height * rng.uniform(*_AREA)
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  return _centre(size, 1.0)


def _centre(size: tuple[int, int], shorter_side: float = _SHORTER_SIDE) -> Box:
  """Returns the box of the square in the middle. Its side is the shorter side / `shorter_side`."""
  side = min(size) / shorter_side
  left, top = ((n - side) / 2 for n in size)
  return left, top, left + side, top + side


def _cut(image: Image.Image, resolution: int, channels: int, box: Box) -> Image.Image:
  """Decodes an image and scales the content of `box`, which is one of the upright image."""
  width, height = image.size
  scale = max(min(box[2] - box[0], box[3] - box[1]) / resolution, 1.0)
  # JPEG can be decoded at 1/8, 1/4 or 1/2 of its size, for a fraction of the work.
  upright = images.upright_size(image)
  image.draft(image.mode, (math.ceil(width / scale), math.ceil(height / scale)))
  image = images.finish(image, channels)
  left, top, right, bottom = (
    edge * now / before for edge, now, before in zip(box, image.size * 2, upright * 2, strict=True)
  )
  return image.resize(
    (resolution, resolution),
    Image.Resampling.BILINEAR,
    (left, top, right, bottom),
    reducing_gap=3.0,
  )
