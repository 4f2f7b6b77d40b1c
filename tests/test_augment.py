import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from scs_jax.data import augment

# Compiled, as in training; operation by operation they take seconds.
shift = jax.jit(augment.shift, static_argnames='pixels')
flip = jax.jit(augment.flip)
affine = jax.jit(augment.affine, static_argnames=('rotate', 'translate', 'scale', 'shear'))
cutout = jax.jit(augment.cutout, static_argnames='size')
warp = jax.jit(augment.warp)
inverse_of = jax.jit(augment.inverse_matrix)
example_keys = jax.jit(augment.example_keys)
make = lambda **amounts: jax.jit(augment.make(**amounts))

EVERYTHING = {
  'shift': 3,
  'flip': True,
  'rotate': 20.0,
  'translate': 0.2,
  'scale': (0.8, 1.2),
  'shear': 10.0,
  'cutout': 5,
}
everything = make(**EVERYTHING)


def keys_for(count: int, seed: int = 0) -> jax.Array:
  zeros = jnp.zeros(count, jnp.int32)
  return example_keys(jax.random.key(seed), zeros, jnp.arange(count, dtype=jnp.int32))


def pictures(count: int, shape: tuple[int, int, int] = (9, 12, 3), dtype=np.float32) -> jax.Array:
  """Images without a black pixel, so that what enters is seen."""
  images = np.random.default_rng(0).uniform(0.1, 1, (count, *shape))
  return jnp.asarray(images.astype(np.float32), dtype)


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
  """The image translated by whole pixels, zeros entering: a loop over pixels."""
  result = np.zeros_like(image)
  height, width, _ = image.shape
  for y in range(height):
    for x in range(width):
      if 0 <= y - down < height and 0 <= x - right < width:
        result[y, x] = image[y - down, x - right]
  return result


# Keys.


def test_keys_depend_on_seed_epoch_and_index_only():
  epoch = jnp.array([0, 0, 1, 1, 2], jnp.int32)
  index = jnp.array([5, 7, 5, 7, 5], jnp.int32)
  data = jax.random.key_data(example_keys(jax.random.key(0), epoch, index))
  assert len({tuple(row) for row in np.asarray(data).tolist()}) == 5
  order = jnp.array([3, 1, 4, 0, 2])
  permuted = example_keys(jax.random.key(0), epoch[order], index[order])
  np.testing.assert_array_equal(jax.random.key_data(permuted), data[order])
  other = example_keys(jax.random.key(1), epoch, index)
  assert not (jax.random.key_data(other) == data).any()


def test_augmentation_does_not_depend_on_the_batch():
  keys, images = keys_for(16), pictures(16)
  whole = everything(keys, images)
  order = np.random.default_rng(1).permutation(16)
  np.testing.assert_allclose(everything(keys[order], images[order]), whole[order], atol=1e-6)
  np.testing.assert_allclose(everything(keys[8:10], images[8:10]), whole[8:10], atol=1e-6)


# Each augmentation.


def test_shift_is_a_translation_by_each_offset_equally_often():
  count, pixels = 900, 1
  images = pictures(count, (3, 4, 1))
  shifted = np.asarray(shift(keys_for(count), images, pixels=pixels))
  offsets = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
  drawn = dict.fromkeys(offsets, 0)
  for before, after in zip(np.asarray(images), shifted, strict=True):
    (offset,) = [o for o in offsets if (moved(before, *o) == after).all()]
    drawn[offset] += 1
  assert all(60 < n < 140 for n in drawn.values()), drawn  # 100 expected, standard deviation 9.4


def test_shift_by_zero_is_the_identity():
  images = pictures(4)
  np.testing.assert_array_equal(shift(keys_for(4), images, pixels=0), images)


def test_flip_swaps_left_and_right_of_half_the_images():
  keys, images = keys_for(400), pictures(400, (2, 3, 1))
  flipped = flip(keys, images)
  swapped = (flipped == images[:, :, ::-1]).all((1, 2, 3))
  kept = (flipped == images).all((1, 2, 3))
  assert (swapped ^ kept).all()
  assert 150 < swapped.sum() < 250
  np.testing.assert_array_equal(flip(keys, flipped), images)


@pytest.mark.parametrize('size', [1, 4, 5, 9])
def test_cutout_is_a_clipped_square(size):
  count, (height, width) = 80, (9, 12)
  images = pictures(count)
  cut = np.asarray(cutout(keys_for(count), images, size=size))
  centres = set()
  for before, after in zip(np.asarray(images), cut, strict=True):
    black = (after == 0).all(-1)
    np.testing.assert_array_equal(after, np.where(black[:, :, None], 0, before))
    found = []
    for y in range(height):
      for x in range(width):
        square = np.zeros((height, width), bool)
        top, left = y - size // 2, x - size // 2
        square[max(top, 0) : top + size, max(left, 0) : left + size] = True
        if (square == black).all():
          found.append((y, x))
    assert found
    centres.add(found[0])
  assert len(centres) > 30 // size


def test_trivial_affine_is_the_identity_to_the_bit():
  images = pictures(16)  # 9 high, 12 wide: one odd, one even
  np.testing.assert_array_equal(affine(keys_for(16), images), images)


def test_affine_translation_moves_by_whole_pixels():
  images = pictures(200, (5, 10, 1))
  result = np.asarray(affine(keys_for(200), images, translate=0.4))
  offsets = [(down, right) for down in range(-2, 3) for right in range(-4, 5)]
  seen = set()
  for before, after in zip(np.asarray(images), result, strict=True):
    (offset,) = [o for o in offsets if (moved(before, *o) == after).all()]
    seen.add(offset)
  assert {down for down, _ in seen} == set(range(-2, 3))
  assert {right for _, right in seen} == set(range(-4, 5))


def warped(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
  """`augment.warp` as a loop over output pixels and the four corners, in float64."""
  height, width, _ = image.shape
  centre = np.array([(height - 1) / 2, (width - 1) / 2])
  result = np.zeros(image.shape)
  for y in range(height):
    for x in range(width):
      source = matrix @ (np.array([y, x]) - centre - offset) + centre
      corner = np.floor(source).astype(int)
      for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = corner + step
        if (at >= 0).all() and (at < (height, width)).all():
          result[y, x] += np.prod(1 - abs(source - at)) * image[tuple(at)]
  return result


@pytest.mark.parametrize('seed', range(4))
def test_warp_equals_a_loop(seed):
  rng = np.random.default_rng(seed)
  image = np.asarray(pictures(1, (7, 10, 2))[0])
  matrix = (np.eye(2) + rng.normal(0, 0.4, (2, 2))).astype(np.float32)
  offset = rng.normal(0, 2, 2).astype(np.float32)
  np.testing.assert_allclose(warp(image, matrix, offset), warped(image, matrix, offset), atol=1e-5)


def test_rotation_by_right_angles_turns_clockwise():
  image = pictures(1, (8, 8, 3))[0]
  for turns in range(-2, 3):
    angle = jnp.float32(turns * np.pi / 2)
    turned = warp(image, inverse_of(angle, jnp.float32(0), jnp.float32(1)), jnp.zeros(2))
    np.testing.assert_allclose(turned, np.rot90(image, -turns), atol=1e-5)


def test_inverse_is_that_of_scaled_rotation_after_shear():
  angle, slope, factor = 0.3, 0.2, 1.7
  rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # (y, x)
  shear = np.array([[1, 0], [-slope, 1]])
  inverse = inverse_of(jnp.float32(angle), jnp.float32(slope), jnp.float32(factor))
  np.testing.assert_allclose(inverse @ (factor * rotation @ shear), np.eye(2), atol=1e-6)


def test_zoom_and_shear_do_what_they_say():
  image = np.zeros((50, 9, 9, 1), np.float32)
  image[:, 3:6, 3:6] = 1

  @jax.jit
  def results(keys, images):
    zoom = lambda factor: augment.affine(keys, images, scale=(factor, factor))
    return zoom(2.0), zoom(0.5), augment.affine(keys, images, shear=40.0)

  zoomed, half, sheared = map(np.asarray, results(keys_for(50), jnp.asarray(image)))
  assert 5.5**2 < zoomed[0].sum() < 6.5**2  # 3x3 becomes about 6x6
  assert half[0].sum() < 3.5
  np.testing.assert_allclose(sheared.sum((2, 3)), image.sum((2, 3)), atol=1e-4)  # rows stay
  centre_of_mass = (sheared[:, 3, :, 0] * np.arange(9)).sum(-1) / 3 - 4
  assert centre_of_mass.min() < -0.3
  assert centre_of_mass.max() > 0.3
  assert abs(centre_of_mass).max() < np.tan(np.deg2rad(40))


def test_angles_are_drawn_from_the_whole_range():
  """A point right of the centre goes to where its angle says."""
  image = np.zeros((1, 21, 21, 1), np.float32)
  image[0, 10, 18] = 1
  turned = np.asarray(affine(keys_for(300), jnp.asarray(image.repeat(300, 0)), rotate=60.0))
  mass = turned[..., 0] / turned.sum((1, 2, 3))[:, None, None]
  y = (mass.sum(2) * (np.arange(21) - 10)).sum(1)
  x = (mass.sum(1) * (np.arange(21) - 10)).sum(1)
  angle = np.rad2deg(np.arctan2(y, x))
  assert -62 < angle.min() < -54
  assert 54 < angle.max() < 62
  assert abs(angle.mean()) < 8


# Composition.


def test_nothing_on_is_the_identity():
  images = pictures(2)
  assert augment.make()(keys_for(2), images) is images
  assert augment.make(scale=[1, 1])(keys_for(2), images) is images  # as read from JSON


def test_composition_is_in_order_with_its_own_keys():
  @jax.jit
  def by_hand(keys, images):
    fold = lambda number: jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
    images = augment.shift(fold(0), images, pixels=3)
    images = augment.flip(fold(1), images)
    images = augment.affine(
      fold(2), images, rotate=20.0, translate=0.2, scale=(0.8, 1.2), shear=10.0
    )
    return augment.cutout(fold(3), images, size=5)

  keys, images = keys_for(16), pictures(16)
  np.testing.assert_allclose(everything(keys, images), by_hand(keys, images), atol=1e-6)


def test_stages_draw_independently():
  """One key would make the flip follow from the shift."""
  keys, images = keys_for(500), pictures(500, (3, 4, 1))
  shifted = make(shift=1)(keys, images)
  both = make(shift=1, flip=True)(keys, images)
  flipped = np.asarray((both != shifted).any((1, 2, 3)))
  entered_above = np.asarray((shifted[:, 0] == 0).all((1, 2)))
  assert abs(flipped[entered_above].mean() - flipped[~entered_above].mean()) < 0.15


def test_same_keys_same_images():
  first, again, other = (everything(keys_for(16, seed), pictures(16)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any((1, 2, 3)).all()


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float32])
def test_shape_dtype_and_range_are_kept(dtype):
  images = pictures(16, dtype=dtype)
  result = everything(keys_for(16), images)
  assert (result.shape, result.dtype) == (images.shape, dtype)
  assert float(result.min()) >= 0
  assert float(result.max()) <= 1


def test_sharded_batch_equals_unsharded_without_communication():
  mesh = jax.make_mesh((8,), ('batch',), axis_types=(AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec('batch'))

  def apply(epoch, index, images):
    keys = augment.example_keys(jax.random.key(0), epoch, index)
    return augment.make(**EVERYTHING)(keys, images)

  arguments = (jnp.zeros(16, jnp.int32), jnp.arange(16, dtype=jnp.int32), pictures(16))
  expected = everything(keys_for(16), pictures(16))
  compiled = jax.jit(apply, in_shardings=rows, out_shardings=rows).lower(*arguments).compile()
  result = compiled(*(jax.device_put(a, rows) for a in arguments))
  np.testing.assert_allclose(result, expected, atol=1e-6)
  text = compiled.as_text()
  assert not [op for op in ('all-gather', 'all-reduce', 'all-to-all', 'permute(') if op in text]


# Errors.


@pytest.mark.parametrize(
  ('amounts', 'message'),
  [
    ({'shift': -1}, 'shift=-1 must be at least 0 pixels'),
    ({'shift': 0.5}, 'shift=0.5 must be a whole number of pixels'),
    ({'cutout': -1}, 'cutout=-1 must be at least 0 pixels'),
    ({'cutout': 2.0}, 'cutout=2.0 must be a whole number of pixels'),
    ({'rotate': -5.0}, 'rotate=-5.0 must be in 0..180 degrees'),
    ({'rotate': 181.0}, 'rotate=181.0 must be in'),
    ({'rotate': float('nan')}, 'rotate=nan must be in'),
    ({'translate': -0.1}, 'translate=-0.1 must be in 0..1'),
    ({'translate': 4}, 'translate=4 must be in 0..1, a fraction'),
    ({'scale': (1.2, 0.8)}, r'scale=\(1.2, 0.8\) must be two factors'),
    ({'scale': (0.0, 1.0)}, r'scale=\(0.0, 1.0\) must be two factors'),
    ({'scale': (1.0,)}, r'scale=\(1.0,\) must be two factors'),
    ({'scale': 1.1}, 'scale=1.1 must be two factors'),
    ({'shear': 90.0}, 'shear=90.0 must be at least 0 and below 90'),
    ({'shear': -1.0}, 'shear=-1.0 must be at least 0'),
  ],
)
def test_amounts_out_of_range(amounts, message):
  with pytest.raises(ValueError, match=message):
    augment.make(**amounts)
  if not {'shift', 'cutout'} & amounts.keys():
    with pytest.raises(ValueError, match=message):
      augment.affine(keys_for(2), pictures(2), **amounts)


@pytest.mark.parametrize(
  ('apply', 'message'),
  [
    (augment.make(shift=9), r'pixels=9 must be below the height and width .*\(9, 12\)'),
    (augment.make(cutout=10), r'size=10 must be at most the height and width .*\(9, 12\)'),
    (functools.partial(augment.shift, pixels=-1), 'pixels=-1 must be at least 0'),
    (functools.partial(augment.cutout, size=1.5), 'size=1.5 must be a whole number'),
  ],
)
def test_amounts_wrong_for_these_images(apply, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(apply, keys_for(2), pictures(2))


@pytest.mark.parametrize(
  'apply',
  [
    functools.partial(augment.shift, pixels=1),
    augment.flip,
    augment.affine,
    functools.partial(augment.cutout, size=1),
  ],
)
def test_wrong_images_and_keys(apply):
  with pytest.raises(ValueError, match=r'images must be floating.*uint8.*scale uint8 images'):
    apply(keys_for(2), jnp.zeros((2, 9, 12, 3), jnp.uint8))
  with pytest.raises(ValueError, match=r'images must be floating.*\(9, 12, 3\)'):
    apply(keys_for(2), jnp.zeros((9, 12, 3)))
  with pytest.raises(
    ValueError, match=r'keys of shape \(3,\) must be one for each of the 2 images'
  ):
    apply(keys_for(3), pictures(2))
