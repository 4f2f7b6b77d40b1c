"""Random changes to images that keep their label: pure functions, made to run inside the step.

Every augmentation is a function of `(keys, images)` and its amounts. `keys` is `[batch]`, one key
an example; `images` is `[batch, height, width, channels]`, floating, with 0 for black: what enters
from outside is black, so normalise afterwards. The result has the shape and dtype of `images`.
Each example uses its own key only, so the result depends neither on how examples are batched nor
on how the batch is sharded. A wrong amount, or images of another form, raise a ValueError that
names the argument, its value and what would be right.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def example_keys(seed_key: jax.Array, epoch: jax.Array, index: jax.Array) -> jax.Array:
  """One key for each example and epoch, whatever batch it is in.

  Args:
    seed_key: a scalar key, as of `jax.random.key(seed)`.
    epoch: `[batch]`, int32.
    index: `[batch]`, int32, the example's index in the data set.
  Returns: keys `[batch]`.
  """
  fold = lambda e, i: jax.random.fold_in(jax.random.fold_in(seed_key, e), i)
  return jax.vmap(fold)(epoch, index)


def shift(keys: jax.Array, images: jax.Array, *, pixels: int) -> jax.Array:
  """Translates by a whole number of pixels, uniform in -pixels..pixels for either axis.

  The same thing is often called a random crop: padding by `pixels` of black on every side and
  cutting out a window of the original size.

  Args:
    keys: `[batch]`.
    images: see the module.
    pixels: the most that an image moves, below its height and width.
  """
  _check_images(keys, images)
  _check_pixels('pixels', pixels)
  if pixels >= min(images.shape[1:3]):
    raise ValueError(
      f'a shift of pixels={pixels} must be below the height and width of the images, {images.shape[1:3]}'
    )

  def shift_one(key: jax.Array, image: jax.Array) -> jax.Array:
    corner = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    return lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)

  return jax.vmap(shift_one)(keys, images)


def flip(keys: jax.Array, images: jax.Array) -> jax.Array:
  """Swaps left and right of each image with probability 1/2.

  Args:
    keys: `[batch]`.
    images: see the module.
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
  """Shears, rotates and scales about the image's centre, then translates, in one interpolation.

  The amounts mean what they mean in torchvision's RandomAffine; the interpolation is bilinear, so
  an image under the trivial amounts is unchanged to the bit.

  Args:
    keys: `[batch]`.
    images: see the module.
    rotate: the angle is uniform in -rotate..rotate degrees; at most 180.
    translate: the translation along each axis is uniform in -translate..translate times the size
      of the image along it, rounded to whole pixels; at most 1.
    scale: (low, high): the factor is uniform in low..high; above 1 is larger.
    shear: the angle of the shear along x is uniform in -shear..shear degrees; below 90.
  """
  _check_images(keys, images)
  _check_affine(rotate, translate, scale, shear)

  def affine_one(key: jax.Array, image: jax.Array) -> jax.Array:
    u = jax.random.uniform(key, (5,), jnp.float32)  # one draw: it compiles faster than five
    between = lambda low, high, u: low + (high - low) * u
    angle = jnp.deg2rad(between(-rotate, rotate, u[0]))
    slope = jnp.tan(jnp.deg2rad(between(-shear, shear, u[1])))
    factor = between(scale[0], scale[1], u[2])
    size = jnp.array(image.shape[:2], jnp.float32)
    moved = jnp.round(between(-translate, translate, u[3:]) * size)
    return warp(image, _inverse(angle, slope, factor), moved)

  return jax.vmap(affine_one)(keys, images)


def cutout(keys: jax.Array, images: jax.Array, *, size: int) -> jax.Array:
  """Blackens a square whose centre is uniform over the pixels, clipped at the image's borders.

  Args:
    keys: `[batch]`.
    images: see the module.
    size: side of the square, pixels, at most the height and width of the images.
  """
  _check_images(keys, images)
  _check_pixels('size', size)
  if size > min(images.shape[1:3]):
    raise ValueError(
      f'a cutout of size={size} must be at most the height and width of the images, {images.shape[1:3]}'
    )

  def cutout_one(key: jax.Array, image: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    start = jax.random.randint(key, (2,), 0, jnp.array([height, width])) - size // 2
    inside = lambda n, first: (jnp.arange(n) >= first) & (jnp.arange(n) < first + size)
    square = inside(height, start[0])[:, None] & inside(width, start[1])[None, :]
    return jnp.where(square[:, :, None], 0, image)

  return jax.vmap(cutout_one)(keys, images)


def warp(image: jax.Array, matrix: jax.Array, moved: jax.Array) -> jax.Array:
  """Draws one image in other coordinates: the pixel at r shows what was at matrix · (r - moved).

  Positions are (y, x) in pixels from the image's centre, y downwards. Bilinear interpolation;
  outside the image is black.

  Args:
    image: `[height, width, channels]`, floating.
    matrix: `[2, 2]`, float32.
    moved: `[2]`, float32.
  Returns: `[height, width, channels]`, dtype of `image`.
  """
  height, width, _ = image.shape
  y = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2 - moved[0])[:, None]
  x = (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2 - moved[1])[None, :]
  # Written out: a matrix product may run at a low precision.
  source_y = matrix[0, 0] * y + matrix[0, 1] * x + (height - 1) / 2
  source_x = matrix[1, 0] * y + matrix[1, 1] * x + (width - 1) / 2
  return _interpolate(image, source_y, source_x)


def _inverse(angle: jax.Array, slope: jax.Array, factor: jax.Array) -> jax.Array:
  """Inverse of factor · rotation · shear in (y, x), [2, 2]; positive angles turn clockwise."""
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  rows = [[cosine, -sine], [sine + slope * cosine, cosine - slope * sine]]
  return jnp.array(rows) / factor


def _interpolate(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
  """Reads image [h, w, c] at positions y, x [h', w'] in pixels: [h', w', c]."""
  height, width, _ = image.shape
  # A border of black, one pixel before and two behind, makes every corner below an existing pixel.
  padded = jnp.pad(image, ((1, 2), (1, 2), (0, 0)))
  y, x = jnp.clip(y, -1, height), jnp.clip(x, -1, width)
  top, left = jnp.floor(y), jnp.floor(x)
  down, right = (y - top)[:, :, None], (x - left)[:, :, None]
  row, column = top.astype(jnp.int32) + 1, left.astype(jnp.int32) + 1
  at = lambda i, j: padded.at[row + i, column + j].get(mode='promise_in_bounds')
  above = (1 - right) * at(0, 0) + right * at(0, 1)
  below = (1 - right) * at(1, 0) + right * at(1, 1)
  return ((1 - down) * above + down * below).astype(image.dtype)


# Each with the number that is folded into the keys, so that the draws of one are independent of
# the others' and of whether the others are on. A number is never used again.
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
  """Composes the augmentations that are on: shift, flip, affine, cutout, in this order.

  Switching one on or off does not change what the others draw.

  Args:
    shift: `pixels` of `shift`; 0 is off.
    flip: whether to `flip`.
    rotate: of `affine`, which is off if none of its amounts changes anything.
    translate: of `affine`.
    scale: of `affine`.
    shear: of `affine`.
    cutout: `size` of `cutout`; 0 is off.
  Returns: a function of `(keys, images)`; with all off it returns `images` as they are.
  Raises: ValueError for an amount out of range: here, or when the images are seen if that depends
    on their size.
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
    raise ValueError(
      'images must be floating of shape [batch, height, width, channels], '
      f'got {images.dtype} of shape {images.shape}; scale uint8 images to 0..1 first'
    )
  if keys.shape[:1] != images.shape[:1]:
    raise ValueError(
      f'keys of shape {keys.shape} must be one for each of the {images.shape[0]} images; '
      'make them by example_keys'
    )


def _check_pixels(name: str, value: Any) -> None:
  try:
    negative = operator.index(value) < 0
  except TypeError:
    raise ValueError(f'{name}={value!r} must be a whole number of pixels') from None
  if negative:
    raise ValueError(f'{name}={value} must be at least 0 pixels')


def _check_affine(
  rotate: float, translate: float, scale: tuple[float, float], shear: float
) -> None:
  if not 0 <= rotate <= 180:
    raise ValueError(f'rotate={rotate} must be in 0..180 degrees')
  if not 0 <= translate <= 1:
    raise ValueError(f'translate={translate} must be in 0..1, a fraction of the image')
  pair = isinstance(scale, Sequence) and len(scale) == 2
  if not (pair and 0 < scale[0] <= scale[1] < float('inf')):
    raise ValueError(f'scale={scale} must be two factors (low, high) with 0 < low <= high')
  if not 0 <= shear < 90:
    raise ValueError(f'shear={shear} must be at least 0 and below 90 degrees')
