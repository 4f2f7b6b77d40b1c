"""The one decoder of pictures, whether they are loaded into memory, streamed or lie in a folder.

Pillow decodes, and a picture becomes what a viewer shows on a white page:

- Orientation: turned upright as its EXIF data says.
- Transparency: laid on white. That includes palettes and colour keys that are transparent.
- Palettes, 1-bit and 2- to 4-bit pictures: their colours, from 0 to 255.
- 16 bits a channel: the higher 8 bits.
- CMYK, also Adobe's inverted and YCCK files: converted to RGB by Pillow's formula. Colour profiles
  are ignored.
- Animations and files of several pictures: the first one.
- The number of channels: what the data set has. A colour picture in a grey data set becomes its
  luma, 0.299 R + 0.587 G + 0.114 B. A grey picture in a colour data set has three equal channels.

Everything else raises an error: truncated, damaged and empty files, files that are no pictures,
pictures of more than 179 million pixels (which may be decompression bombs), pictures that are
wholly transparent, and pixels that do not say which value is white: floating-point, 32 bits, and
TIFF files with 12 bits or an inverted 16-bit scale. PostScript is never opened, because a program
would have to run it.
"""

import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

# Pillow's name for pixels of so many channels.
MODES = {1: 'L', 2: 'LA', 3: 'RGB', 4: 'RGBA'}

# Formats that Pillow names and does not decode itself.
_NOT_DECODED = ('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF')
# How to turn a picture upright, by the value of its EXIF tag.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC, _BITS = 262, 258  # tags of TIFF
_WHITE = 'the file does not say which value is white. Save it with 8 or 16 bits a channel'


@functools.cache
def formats() -> tuple[str, ...]:
  """Returns Pillow's names of the formats that are decoded, the most frequent ones first."""
  Image.init()
  first = ('JPEG', 'PNG')
  return first + tuple(name for name in Image.OPEN if name not in (*first, *_NOT_DECODED))


@functools.cache
def extensions() -> frozenset[str]:
  """Returns the extensions of files that are decoded, such as '.png', in lower case."""
  return frozenset(e for e, name in Image.registered_extensions().items() if name in formats())


def decode(encoded: bytes, channels: int) -> np.ndarray:
  """Returns the pixels of a picture, `[height, width, channels]` uint8.

  Args:
    encoded: the content of its file.
    channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

  Raises:
    Exception: of many classes, if the picture cannot be decoded. The message says why.

  Example:
    >>> import io
    >>> from PIL import Image
    >>> from scs_jax.data import images
    >>> file = io.BytesIO()
    >>> Image.new('P', (5, 4)).save(file, 'PNG')
    >>> images.decode(file.getvalue(), channels=3).shape
    (4, 5, 3)
  """
  return pixels(finish(begin(encoded), channels))


def begin(encoded: bytes) -> Image.Image:
  """Returns a picture of which at least the header is decoded.

  A JPEG is not decoded further, so `draft` can still make it smaller.

  Raises:
    Exception: as `decode`.
  """
  if not encoded:
    raise ValueError('it is empty')
  try:
    image = Image.open(io.BytesIO(encoded), formats=formats())
  except UnidentifiedImageError:
    raise ValueError(
      f'it is no picture that Pillow knows; it begins with {encoded[:16]!r}'
    ) from None
  if image.format == 'PNG':
    image = _verified(image, encoded)
  if image.format not in ('JPEG', 'MPO'):
    stored = [str(tile.args) for tile in image.tile]  # gone once the image is loaded
    image.load()
    if image.format == 'PNG' and 'transparency' in image.info:
      _scale_colour_key(image, stored)
  return image


def _verified(image: ImageFile.ImageFile, encoded: bytes) -> ImageFile.ImageFile:
  """Checks the checksums of a PNG, which decoding ignores; returns the picture opened anew."""
  try:
    image.verify()
  except Exception as error:  # of several classes
    raise ValueError(f'it is truncated or damaged ({error})') from error
  return Image.open(io.BytesIO(encoded), formats=('PNG',))


def _scale_colour_key(image: Image.Image, stored: Sequence[str]) -> None:
  """Gives the transparent colour of a PNG the scale of the pixels, which Pillow does not."""
  if image.mode == 'RGB' and any(';16' in pixels for pixels in stored):
    raise ValueError('it has 16 bits a channel and a transparent colour. Save it with 8 bits')
  if image.mode == 'L':
    factor = {'L;2': 85, 'L;4': 17}.get(stored[0], 1)
    image.info['transparency'] *= factor


def upright_size(image: Image.Image) -> tuple[int, int]:
  """Returns `(width, height)` of the picture that `finish` will return, unless `draft` is used."""
  width, height = image.size
  return (height, width) if _orientation(image) >= 5 else (width, height)


def _orientation(image: Image.Image) -> int:
  try:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))
  except Exception:  # damaged EXIF data raises many classes, and says nothing about the pixels
    return 1


def finish(image: Image.Image, channels: int) -> Image.Image:
  """Returns the whole picture, upright, in the mode of `MODES` for so many channels.

  Args:
    image: the result of `begin`.
    channels: as for `decode`.

  Raises:
    Exception: as `decode`.
  """
  turn = _TURNS.get(_orientation(image))
  image.load()
  image = _shown(_eight_bits(image), with_alpha=channels in (2, 4))
  if turn is not None:
    image = image.transpose(turn)
  return _convert(image, MODES[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
  """Returns a picture of 8 bits a channel."""
  if image.format == 'PPM' and image.mode == 'I':  # Pillow scales it to 16 bits
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  if image.mode.startswith('I;16'):
    tags = getattr(image, 'tag_v2', None)
    if tags is not None and (tags.get(_BITS) != (16,) or tags.get(_PHOTOMETRIC) != 1):
      raise ValueError(f'it is a TIFF file of {tags.get(_BITS)} bits, and {_WHITE}')
    values = np.asarray(image)
    high = (values >> 8).astype(np.uint8)
    if 'transparency' not in image.info:
      return Image.fromarray(high)
    opaque = np.where(values == image.info['transparency'], 0, 255).astype(np.uint8)
    return Image.merge('LA', (Image.fromarray(high), Image.fromarray(opaque)))
  if image.mode in ('F', 'I', 'LAB', 'HSV'):
    raise ValueError(f'its pixels are of type {image.mode!r}, and {_WHITE}')
  return image


def _shown(image: Image.Image, *, with_alpha: bool) -> Image.Image:
  """Returns a picture in the mode L, RGB or RGBA; the last one only `with_alpha`."""
  if image.mode == 'P' and 'transparency' not in image.info:
    colours = len(image.getpalette() or ()) // 3
    if np.asarray(image).max() >= colours:
      raise ValueError(f'it has pixels of a colour that is not among the {colours} of its palette')
  if not image.has_transparency_data:
    return _convert(image, 'L' if image.mode in ('1', 'L') else 'RGB')
  if image.mode == 'La':  # Pillow converts it to nothing else
    image = image.convert('LA')
  image = _convert(image, 'RGBA')
  if with_alpha:
    return image
  if image.getchannel('A').getextrema() == (0, 0):
    raise ValueError('all its pixels are transparent')
  page = Image.new('RGBA', image.size, 'white')
  page.alpha_composite(image)
  return page.convert('RGB')


def _convert(image: Image.Image, mode: str) -> Image.Image:
  return image if image.mode == mode else image.convert(mode)


def pixels(image: Image.Image) -> np.ndarray:
  """Returns the pixels of a picture that `finish` returned, `[height, width, channels]` uint8."""
  array = np.asarray(image, np.uint8)
  return array if array.ndim == 3 else array[:, :, None]


def reason(error: Exception) -> str:
  """Returns what an error of decoding or reading says, for a message that names the file."""
  said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
  return said or type(error).__name__
