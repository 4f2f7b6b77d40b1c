"""Random changes of images that keep their label: pure functions that run inside the train step.

Every augmentation is a function of `(keys, images)` and its amounts. `keys` is `[batch]`, one key
per example. `images` is `[batch, height, width, channels]`, floating-point. Black is 0, and pixels
that enter from outside the image are black, so normalise afterwards. The result has the shape and
dtype of `images`.

Each example uses only its own key. The result therefore depends neither on the other examples of
the batch nor on the sharding of the batch. A wrong amount, or images of another shape or dtype,
raise an ArgumentError.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.errors import ArgumentError


def example_keys(seed_key: jax.Array, epoch: jax.Array, index: jax.Array) -> jax.Array:
  """Returns one key per example, which depends on the seed, the epoch and the example only.

  Args:
    seed_key: a scalar key, such as `jax.random.key(seed)`.
    epoch: `[batch]`, int32.
    index: `[batch]`, int32, the position of the example in the data set.

  Returns:
    keys `[batch]`.
  """
  fold = lambda e, i: jax.random.fold_in(jax.random.fold_in(seed_key, e), i)
  return jax.vmap(fold)(epoch, index)


def shift(keys: jax.Array, images: jax.Array, *, pixels: int) -> jax.Array:
  """Translates each image by whole pixels, uniform in -pixels..pixels along each axis.

  This is also known as a random crop: pad by `pixels` of black on every side, then cut out a window
  of the original size.

  Args:
    keys: `[batch]`.
    images: `[batch, height, width, channels]`.
    pixels: the largest translation, pixels; below the height and width of the images.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from scs_jax.data import augment
    >>> keys = jax.random.split(jax.random.key(0), 8)
    >>> augment.shift(keys, jnp.ones((8, 28, 28, 1)), pixels=2).shape
    (8, 28, 28, 1)
  """
  _check_images(keys, images)
  _check_pixels('pixels', pixels)
  if pixels >= min(images.shape[1:3]):
    raise ArgumentError(
      f'a shift of pixels={pixels} must be below the height and width of the images, '
      f'{images.shape[1:3]}'
    )

  def shift_one(key: jax.Array, image: jax.Array) -> jax.Array:
    corner = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    return lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)

  return jax.vmap(shift_one)(keys, images)


def flip(keys: jax.Array, images: jax.Array) -> jax.Array:
  """Mirrors each image from left to right with probability 1/2.

  Args:
    keys: `[batch]`.
    images: `[batch, height, width, channels]`.
  """
  _check_images(keys, images)
  flip_one = lambda key, image: jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)
  return jax.vmap(flip_one)(keys, images)


def affine(
  keys: jax.Array,
  images: jax.Array,
  *,
  rotate: float = 0.0,
  translate: float = 0.0,
  scale: tuple[float, float] = (1.0, 1.0),
  shear: float = 0.0,
) -> jax.Array:
  """Shears, rotates and scales about the centre of the image, then translates.

  All of it is one bilinear interpolation. The default amounts leave every bit of the image
  unchanged. The amounts have the same meaning as in torchvision's RandomAffine.

  Args:
    keys: `[batch]`.
    images: `[batch, height, width, channels]`.
    rotate: the angle is uniform in -rotate..rotate degrees; at most 180.
    translate: the translation is uniform in -translate..translate, a fraction of the size of the
      image along each axis, and rounded to whole pixels; at most 1.
    scale: (low, high): the factor is uniform in low..high. A factor above 1 enlarges.
    shear: the angle of the shear along x is uniform in -shear..shear degrees; below 90.

  References:
    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.RandomAffine.html
  """
  _check_images(keys, images)
  _check_affine(rotate, translate, scale, shear)

  def affine_one(key: jax.Array, image: jax.Array) -> jax.Array:
    u = jax.random.uniform(key, (5,), jnp.float32)  # one draw compiles faster than five
    between = lambda low, high, u: low + (high - low) * u
    angle = jnp.deg2rad(between(-rotate, rotate, u[0]))
    slope = jnp.tan(jnp.deg2rad(between(-shear, shear, u[1])))
    factor = between(scale[0], scale[1], u[2])
    size = jnp.array(image.shape[:2], jnp.float32)
    moved = jnp.round(between(-translate, translate, u[3:]) * size)
    return warp(image, inverse_matrix(angle, slope, factor), moved)

  return jax.vmap(affine_one)(keys, images)


def cutout(keys: jax.Array, images: jax.Array, *, size: int) -> jax.Array:
  """Blackens a square in each image. Its centre is uniform over all pixels.

  The part of the square outside the image is lost.

  Args:
    keys: `[batch]`.
    images: `[batch, height, width, channels]`.
    size: the side of the square, pixels; at most the height and width of the images.

  References:
    DeVries and Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout,
    https://arxiv.org/abs/1708.04552
  """
  _check_images(keys, images)
  _check_pixels('size', size)
  if size > min(images.shape[1:3]):
    raise ArgumentError(
      f'a cutout of size={size} must be at most the height and width of the images, '
      f'{images.shape[1:3]}'
    )

  def cutout_one(key: jax.Array, image: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    start = jax.random.randint(key, (2,), 0, jnp.array([height, width])) - size // 2
    inside = lambda n, first: (jnp.arange(n) >= first) & (jnp.arange(n) < first + size)
    square = inside(height, start[0])[:, None] & inside(width, start[1])[None, :]
    return jnp.where(square[:, :, None], 0, image)

  return jax.vmap(cutout_one)(keys, images)


def warp(image: jax.Array, matrix: jax.Array, moved: jax.Array) -> jax.Array:
  """Applies an affine map to one image, by bilinear interpolation.

  The result at position `r` is the image at `matrix · (r - moved)`. Positions are (y, x), in pixels
  from the centre of the image, and y points down. Outside the image is black.

  Args:
    image: `[height, width, channels]`, floating-point.
    matrix: `[2, 2]`, float32.
    moved: `[2]`, float32, pixels.

  Returns:
    `[height, width, channels]`, in the dtype of `image`.
  """
  height, width, _ = image.shape
  y = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2 - moved[0])[:, None]
  x = (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2 - moved[1])[None, :]
  # Written out, because a matrix product may run at low precision.
  source_y = matrix[0, 0] * y + matrix[0, 1] * x + (height - 1) / 2
  source_x = matrix[1, 0] * y + matrix[1, 1] * x + (width - 1) / 2
  return _interpolate(image, source_y, source_x)


def inverse_matrix(angle: jax.Array, slope: jax.Array, factor: jax.Array) -> jax.Array:
  """Returns the inverse of factor · rotation · shear, `[2, 2]`, for positions (y, x).

  Args:
    angle: of the rotation, radians; clockwise if positive.
    slope: tangent of the angle of the shear along x.
    factor: above 1 enlarges.
  """
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  rows = [[cosine, -sine], [sine + slope * cosine, cosine - slope * sine]]
  return jnp.array(rows) / factor


def _interpolate(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
  """Returns the image `[h, w, c]` at the positions y and x `[h', w']`, pixels: `[h', w', c]`."""
  height, width, _ = image.shape
  # The image gets a black border: one pixel before and two behind. With it, all four neighbours of
  # a clipped position exist.
  padded = jnp.pad(image, ((1, 2), (1, 2), (0, 0)))
  y, x = jnp.clip(y, -1, height), jnp.clip(x, -1, width)
  top, left = jnp.floor(y), jnp.floor(x)
  down, right = (y - top)[:, :, None], (x - left)[:, :, None]
  row, column = top.astype(jnp.int32) + 1, left.astype(jnp.int32) + 1
  at = lambda i, j: padded.at[row + i, column + j].get(mode='promise_in_bounds')
  above = (1 - right) * at(0, 0) + right * at(0, 1)
  below = (1 - right) * at(1, 0) + right * at(1, 1)
  return ((1 - down) * above + down * below).astype(image.dtype)


# Each augmentation folds its own number into the keys. Its draws are therefore independent of the
# draws of the others, and do not change if another one is switched on or off. Never reuse a number.
# The names are needed because the arguments of `make` hide the functions.
_SHIFT, _FLIP, _AFFINE, _CUTOUT = (0, shift), (1, flip), (2, affine), (3, cutout)


def make(
  *,
  shift: int = 0,
  flip: bool = False,
  rotate: float = 0.0,
  translate: float = 0.0,
  scale: tuple[float, float] = (1.0, 1.0),
  shear: float = 0.0,
  cutout: int = 0,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Composes the augmentations that are on, in this order: shift, flip, affine, cutout.

  Switching one on or off does not change the draws of the others.

  Args:
    shift: `pixels` of `shift`; 0 is off.
    flip: True applies `flip`.
    rotate: an amount of `affine`, which is off if all its amounts have their defaults.
    translate: an amount of `affine`.
    scale: an amount of `affine`.
    shear: an amount of `affine`.
    cutout: `size` of `cutout`; 0 is off.

  Returns:
    a function of `(keys, images)`. It returns `images` unchanged if everything is off.

  Raises:
    ArgumentError: an amount is out of range. Amounts that depend on the size of the images are
      checked when the returned function is called.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from scs_jax.data import augment
    >>> augmentation = augment.make(shift=2, flip=True)
    >>> keys = jax.random.split(jax.random.key(0), 8)
    >>> augmentation(keys, jnp.ones((8, 32, 32, 3))).shape
    (8, 32, 32, 3)
  """
  _check_pixels('shift', shift)
  _check_affine(rotate, translate, scale, shear)
  _check_pixels('cutout', cutout)
  stages = []
  if shift:
    stages.append((*_SHIFT, {'pixels': shift}))
  if flip:
    stages.append((*_FLIP, {}))
  if (rotate, translate, *scale, shear) != (0, 0, 1, 1, 0):
    amounts = {'rotate': rotate, 'translate': translate, 'scale': tuple(scale), 'shear': shear}
    stages.append((*_AFFINE, amounts))
  if cutout:
    stages.append((*_CUTOUT, {'size': cutout}))

  def augmented(keys: jax.Array, images: jax.Array) -> jax.Array:
    for number, augmentation, amounts in stages:
      stage_keys = jax.vmap(lambda key, number=number: jax.random.fold_in(key, number))(keys)
      images = augmentation(stage_keys, images, **amounts)
    return images

  return augmented


def _check_images(keys: jax.Array, images: jax.Array) -> None:
  if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
    raise ArgumentError(
      'images must be floating-point of shape [batch, height, width, channels], '
      f'got {images.dtype} of shape {images.shape}; scale uint8 images to 0..1 first'
    )
  if keys.shape[:1] != images.shape[:1]:
    raise ArgumentError(
      f'keys of shape {keys.shape} must be one for each of the {images.shape[0]} images; '
      'example_keys makes them'
    )


def _check_pixels(name: str, value: Any) -> None:
  try:
    negative = operator.index(value) < 0
  except TypeError:
    raise ArgumentError(f'{name}={value!r} must be a whole number of pixels') from None
  if negative:
    raise ArgumentError(f'{name}={value} must be at least 0 pixels')


def _check_affine(
  rotate: float, translate: float, scale: tuple[float, float], shear: float
) -> None:
  if not 0 <= rotate <= 180:
    raise ArgumentError(f'rotate={rotate} must be in 0..180 degrees')
  if not 0 <= translate <= 1:
    raise ArgumentError(f'translate={translate} must be in 0..1, a fraction of the image')
  pair = isinstance(scale, Sequence) and len(scale) == 2
  if not (pair and 0 < scale[0] <= scale[1] < float('inf')):
    raise ArgumentError(f'scale={scale} must be two factors (low, high) with 0 < low <= high')
  if not 0 <= shear < 90:
    raise ArgumentError(f'shear={shear} must be at least 0 and below 90 degrees')
