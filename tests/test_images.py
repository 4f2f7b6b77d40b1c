"""The decoder: every kind of picture becomes what a viewer shows, or is refused."""

import kinds
import numpy as np
import pytest
from PIL import Image

from scs_jax.data import crops, images

LUMA = np.array([0.299, 0.587, 0.114])
LOSSY = ('jpeg', 'mpo')


@pytest.mark.parametrize('kind', kinds.DECODED)
def test_a_picture_has_the_colours_that_a_viewer_shows(kind):
  encoded, *colours = kinds.DECODED[kind]
  tolerance = 4 if kind.startswith(LOSSY) and kind != 'jpeg2000' else 1
  rgb = images.decode(encoded, 3)
  assert (rgb.shape, rgb.dtype) == ((32, 48, 3), np.uint8)
  np.testing.assert_allclose(rgb[[0, -1], [0, -1]].astype(int), colours, atol=tolerance)
  grey = images.decode(encoded, 1)
  assert grey.shape == (32, 48, 1)
  np.testing.assert_allclose(
    grey[[0, -1], [0, -1], 0].astype(float), np.array(colours) @ LUMA, atol=tolerance
  )


@pytest.mark.parametrize('kind', ['png rgba', 'webp alpha', 'png palette transparent'])
def test_transparency_is_kept_where_the_data_set_has_it(kind):
  rgba = images.decode(kinds.DECODED[kind][0], 4)
  np.testing.assert_array_equal(rgba[0, 0], [*kinds.LEFT, 255])
  np.testing.assert_array_equal(rgba[-1, -1], [*kinds.RIGHT, 0])
  assert images.decode(kinds.DECODED[kind][0], 2)[0, [0, -1], 1].tolist() == [255, 0]
  assert (images.decode(kinds.DECODED['jpeg grey'][0], 4)[..., 3] == 255).all()


@pytest.mark.parametrize('kind', kinds.REFUSED)
@pytest.mark.parametrize('channels', [1, 3])
def test_every_other_file_is_refused(kind, channels):
  encoded, message = kinds.REFUSED[kind]
  with pytest.raises(Exception, match=message):
    images.decode(encoded, channels)


# The EXIF standard says of which side of the upright picture u the stored row 0 and column 0 are.
STORED = {
  1: lambda u: u,  # top, left
  2: lambda u: u[:, ::-1],  # top, right
  3: lambda u: u[::-1, ::-1],  # bottom, right
  4: lambda u: u[::-1],  # bottom, left
  5: lambda u: u.T,  # left, top
  6: lambda u: u[:, ::-1].T,  # right, top
  7: lambda u: u[::-1, ::-1].T,  # right, bottom
  8: lambda u: u[::-1].T,  # left, bottom
}


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('value', STORED)
def test_pictures_are_turned_upright(form, value):
  upright = np.kron([[200, 150, 100], [50, 250, 0]], np.ones((16, 16))).astype(np.uint8)
  stored = Image.fromarray(np.ascontiguousarray(STORED[value](upright)))
  options = {'lossless': True} if form == 'WEBP' else {}
  encoded = kinds.encode(stored, form, exif=kinds.turned(value), **options)
  shown = images.decode(encoded, 1)[..., 0]
  np.testing.assert_allclose(shown.astype(int), upright, atol=4)


def test_every_format_of_pillow_is_read_but_those_that_run_programs():
  assert {'.png', '.jpg', '.gif', '.bmp', '.tif', '.webp', '.ppm', '.tga'} <= images.extensions()
  assert not {'.eps', '.ps', '.wmf', '.pdf', '.h5', '.mpg', '.txt'} & images.extensions()


def test_the_centre_is_that_of_torchvision():
  """The sizes and positions are those of torchvision's Resize and CenterCrop, written down here."""
  rng = np.random.default_rng(0)
  for width, height, resolution in [(50, 41, 16), (41, 50, 16), (7, 90, 32), (33, 33, 33)]:
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    short = min(width, height)
    scaled = picture.resize(
      (int(resolution * width / short), int(resolution * height / short)), Image.Resampling.BILINEAR
    )
    top = round((scaled.height - resolution) / 2.0)
    left = round((scaled.width - resolution) / 2.0)
    expected = np.asarray(scaled)[top : top + resolution, left : left + resolution]
    encoded = images.begin(kinds.encode(picture, 'PNG'))
    np.testing.assert_array_equal(images.pixels(crops.centre(encoded, resolution, 3)), expected)
  same = Image.fromarray(rng.integers(0, 256, (28, 28, 3)).astype(np.uint8))
  unchanged = crops.centre(images.begin(kinds.encode(same, 'PNG')), 28, 3)
  np.testing.assert_array_equal(np.asarray(unchanged), same)


def test_a_picture_too_long_and_thin_is_refused():
  with pytest.raises(ValueError, match=r'too long and thin to be scaled: 9000 × 1 pixels'):
    crops.centre(images.begin(kinds.encode(Image.new('L', (9000, 1)), 'PNG')), 224, 3)


def test_crops_see_the_upright_picture():
  """Turned by 90 degrees: the bright end of the stored picture is the lower end of the upright."""
  ramp = np.linspace(250, 0, 90)[None, :].repeat(30, 0).astype(np.uint8)
  encoded = kinds.encode(Image.fromarray(ramp), 'JPEG', quality=95, exif=kinds.turned(8))
  for cut in (
    crops.inner(images.begin(encoded), 10, 1),
    crops.centre(images.begin(encoded), 10, 1),
    crops.random(images.begin(encoded), 10, 1, np.random.default_rng(0)),
  ):
    rows = np.asarray(cut).astype(int).mean(1)
    assert (np.diff(rows) > 0).all()
  assert images.upright_size(images.begin(encoded)) == (30, 90)


def test_opening_reads_no_more_than_the_header_of_a_jpeg():
  image = images.begin(kinds.whole)
  image.draft(image.mode, (60, 40))
  assert images.finish(image, 3).size == (60, 40)
