"""Pictures of every kind, 48×32: the left half LEFT, the right half RIGHT, or greys like those.

PNGs that Pillow cannot write are put together here, byte by byte.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

LEFT, RIGHT = (200, 40, 30), (20, 60, 220)
WHITE, BLACK = (255,) * 3, (0,) * 3
LIGHT, DARK = (204,) * 3, (51,) * 3  # 4-bit pictures have these greys, too

right = np.arange(48)[None, :].repeat(32, 0) >= 24  # [32, 48]
pixels = np.where(right[..., None], RIGHT, LEFT).astype(np.uint8)
grey = np.where(right, DARK[0], LIGHT[0]).astype(np.uint8)
opaque_left = np.where(right, 0, 255).astype(np.uint8)  # an alpha channel
RGB, GREY, RGBA = map(Image.fromarray, (pixels, grey, np.dstack([pixels, opaque_left])))
BILEVEL = Image.fromarray(~right)
OTHER = Image.new('RGB', (48, 32), (9, 200, 9))  # of a second page or frame
PALETTE = Image.fromarray(right.astype(np.uint8))
PALETTE.putpalette(LEFT + RIGHT)


def encode(image: Image.Image, form: str, **options) -> bytes:
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


def png(
  samples: np.ndarray,
  depth: int,
  kind: int,
  *,
  key: bytes | None = None,
  palette: tuple[int, ...] | None = None,
  interlaced: bool = False,
  size: tuple[int, int] | None = None,
) -> bytes:
  """A PNG of any depth (bits) and kind (0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA).

  `size` is the width and height that the header claims.
  """
  samples = samples.reshape(*samples.shape[:2], -1)
  passes = [(0, 0, 1, 1)]
  if interlaced:  # x0, y0, dx, dy of Adam7
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
    passes += [(1, 0, 2, 2), (0, 1, 1, 2)]
  raw = b''
  for x, y, dx, dy in passes:
    for row in samples[y::dy, x::dx].reshape(-1, samples[0, x::dx].size):
      bits = row[:, None].astype(int) >> np.arange(depth - 1, -1, -1) & 1
      raw += b'\0' + np.packbits(bits.astype(np.uint8)).tobytes()
  width, height = size or samples.shape[1::-1]
  chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, interlaced))]
  chunks += [(b'PLTE', bytes(palette))] if palette else []
  chunks += [(b'tRNS', key)] if key else []
  chunks += [(b'IDAT', zlib.compress(raw)), (b'IEND', b'')]
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    for name, data in chunks
  )


def tiff(samples: np.ndarray, bits: int, photometric: int, sample_format: int = 1) -> bytes:
  """An uncompressed TIFF of one channel, little-endian."""
  data = samples.tobytes()
  tags = {256: samples.shape[1], 257: samples.shape[0], 258: bits, 259: 1, 262: photometric}
  tags |= {273: 8 + 2 + 9 * 12 + 4, 277: 1, 279: len(data), 339: sample_format}
  entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
  return struct.pack('<2sHIH', b'II', 42, 8, len(tags)) + entries + bytes(4) + data


def turned(value: int) -> Image.Exif:
  exif = Image.Exif()
  exif[0x112] = value
  return exif


def jpeg(image: Image.Image, **options) -> bytes:
  return encode(image, 'JPEG', quality=97, subsampling=0, **options)


def ycck() -> bytes:
  """Adobe's YCCK. Pillow writes CMYK; the marker of its bytes is changed."""
  inks = Image.frombytes(
    'CMYK', RGB.size, np.dstack([RGB.convert('YCbCr'), np.zeros_like(grey)]).tobytes()
  )
  plain, changed = b'Adobe\0d\0\0\0\0\0', b'Adobe\0d\0\0\0\0\2'
  assert plain in jpeg(inks)
  return jpeg(inks).replace(plain, changed)


deep = pixels.astype(np.uint16) * 256 + 13
deep_grey = grey.astype(np.uint16) * 256 + 200
words = lambda *values: struct.pack(f'>{len(values)}H', *map(int, values))
index, four_bits = right.astype(int), np.where(right, 3, 12)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'

# Name -> bytes, and the colours of the first and last pixel in an RGB data set.
DECODED = {
  'png': (encode(RGB, 'PNG'), LEFT, RIGHT),
  'png interlaced': (png(pixels, 8, 2, interlaced=True), LEFT, RIGHT),
  'png colour key': (png(pixels, 8, 2, key=words(*RIGHT)), LEFT, WHITE),
  'png rgba': (encode(RGBA, 'PNG'), LEFT, WHITE),
  'png half transparent': (
    png(index, 8, 3, palette=LEFT + RIGHT, key=bytes([255, 128])),
    LEFT,
    (137, 157, 237),
  ),
  'png grey and alpha': (png(np.dstack([grey, opaque_left]), 8, 4), LIGHT, WHITE),
  'png grey colour key': (png(grey, 8, 0, key=words(DARK[0])), LIGHT, WHITE),
  'png palette': (encode(PALETTE, 'PNG'), LEFT, RIGHT),
  'png palette 1 bit': (png(index, 1, 3, palette=LEFT + RIGHT), LEFT, RIGHT),
  'png palette transparent': (
    png(index, 8, 3, palette=LEFT + RIGHT, key=bytes([255, 0])),
    LEFT,
    WHITE,
  ),
  'png palette 4 bits interlaced': (
    png(index, 4, 3, palette=LEFT + RIGHT, interlaced=True),
    LEFT,
    RIGHT,
  ),
  'png 1 bit': (png(1 - index, 1, 0), WHITE, BLACK),
  'png 1 bit colour key': (png(1 - index, 1, 0, key=words(0)), WHITE, WHITE),
  'png 4 bits': (png(four_bits, 4, 0), LIGHT, DARK),
  'png 4 bits colour key': (png(four_bits, 4, 0, key=words(3)), LIGHT, WHITE),
  'png 2 bits colour key': (png(2 - index, 2, 0, key=words(1)), (170,) * 3, WHITE),
  'png 16 bits': (png(deep, 16, 2), LEFT, RIGHT),
  'png 16 bits rgba': (
    png(np.dstack([deep, opaque_left.astype(np.uint16) * 257]), 16, 6),
    LEFT,
    WHITE,
  ),
  'png 16 bits grey': (png(deep_grey, 16, 0), LIGHT, DARK),
  'png 16 bits grey colour key': (
    png(deep_grey, 16, 0, key=words(deep_grey[0, -1])),
    LIGHT,
    WHITE,
  ),
  'png 16 bits grey other key': (png(deep_grey, 16, 0, key=words(DARK[0] * 256)), LIGHT, DARK),
  'apng': (encode(RGB, 'PNG', save_all=True, append_images=[OTHER]), LEFT, RIGHT),
  'gif': (encode(PALETTE, 'GIF'), LEFT, RIGHT),
  'gif transparent': (encode(PALETTE, 'GIF', transparency=1), LEFT, WHITE),
  'gif animated': (
    encode(PALETTE, 'GIF', save_all=True, append_images=[OTHER.quantize(4)]),
    LEFT,
    RIGHT,
  ),
  'webp': (encode(RGB, 'WEBP', lossless=True), LEFT, RIGHT),
  'webp alpha': (encode(RGBA, 'WEBP', lossless=True, exact=True), LEFT, WHITE),
  'webp animated': (
    encode(RGB, 'WEBP', lossless=True, save_all=True, append_images=[OTHER]),
    LEFT,
    RIGHT,
  ),
  'bmp': (encode(RGB, 'BMP'), LEFT, RIGHT),
  'bmp palette': (encode(PALETTE, 'BMP'), LEFT, RIGHT),
  'bmp 1 bit': (encode(BILEVEL, 'BMP'), WHITE, BLACK),
  'tiff': (encode(RGB, 'TIFF', compression='tiff_lzw'), LEFT, RIGHT),
  'tiff pages': (encode(RGB, 'TIFF', save_all=True, append_images=[OTHER]), LEFT, RIGHT),
  'tiff cmyk': (encode(RGB.convert('CMYK'), 'TIFF'), LEFT, RIGHT),
  'tiff 16 bits': (encode(Image.fromarray(deep_grey), 'TIFF'), LIGHT, DARK),
  'tiff white is 0': (tiff(255 - grey, 8, 0), LIGHT, DARK),
  'ppm': (encode(RGB, 'PPM'), LEFT, RIGHT),
  'pgm 16 bits': (b'P5 48 32 65535\n' + deep_grey.astype('>u2').tobytes(), LIGHT, DARK),
  'pgm to 15': (b'P5 48 32 15\n' + four_bits.astype(np.uint8).tobytes(), LIGHT, DARK),
  'jpeg': (jpeg(RGB), LEFT, RIGHT),
  'jpeg progressive': (jpeg(RGB, progressive=True), LEFT, RIGHT),
  'jpeg grey': (jpeg(GREY), LIGHT, DARK),
  'jpeg rgb': (jpeg(RGB, keep_rgb=True), LEFT, RIGHT),
  'jpeg cmyk': (jpeg(RGB.convert('CMYK')), LEFT, RIGHT),
  'jpeg ycck': (ycck(), LEFT, RIGHT),
  'jpeg damaged exif': (jpeg(RGB, exif=b'Exif\0\0MM\0*\xff\xff\xff\xff'), LEFT, RIGHT),
  'jpeg turned by nothing': (jpeg(RGB, exif=turned(99)), LEFT, RIGHT),
  'jpeg turned': (jpeg(RGB, exif=turned(3)), RIGHT, LEFT),
  'jpeg turned by xmp': (jpeg(RGB, xmp=XMP), RIGHT, LEFT),
  'mpo': (encode(RGB, 'MPO', quality=97, save_all=True, append_images=[OTHER]), LEFT, RIGHT),
  'jpeg2000': (encode(RGBA, 'JPEG2000'), LEFT, WHITE),
  'jpeg2000 16 bits': (encode(Image.fromarray(deep_grey), 'JPEG2000'), LIGHT, DARK),
  'ico': (encode(RGBA, 'ICO', sizes=[(48, 32)]), LEFT, WHITE),
  'qoi': (encode(RGBA, 'QOI'), LEFT, WHITE),
  'tga': (encode(RGB, 'TGA'), LEFT, RIGHT),
}

whole = encode(RGB.resize((480, 320)), 'JPEG', quality=95)


def unwritten(data):
  """Returns a file whose second half a crash left unwritten."""
  half = len(data) // 2
  return data[:half] + bytes(len(data) - half)


# Name -> bytes, and what the error says.
REFUSED = {
  'empty': (b'', 'it is empty'),
  'html': (b'<html><body>404 Not Found', "no picture that Pillow knows; it begins with b'<html>"),
  'truncated jpeg': (whole[: len(whole) // 2], 'truncated'),
  'truncated png': (encode(RGB, 'PNG')[:60], 'truncated|broken|no picture'),
  'png without its end': (encode(RGB, 'PNG')[:-12], 'truncated'),
  'png with an unwritten tail': (unwritten(encode(RGB, 'PNG')), 'damaged'),
  'truncated gif': (encode(RGB.quantize(200), 'GIF')[:-40], 'truncated'),
  'truncated webp': (encode(RGB, 'WEBP')[:-20], '.'),
  'truncated tiff': (encode(RGB, 'TIFF')[:-900], 'truncated'),
  'truncated bmp': (encode(RGB, 'BMP')[:-9], 'truncated'),
  'decompression bomb': (png(grey, 8, 0, size=(30_000, 30_000)), 'decompression bomb'),
  'postscript': (encode(RGB, 'EPS'), 'no picture that Pillow knows'),
  'all transparent': (encode(Image.new('RGBA', (4, 4)), 'PNG'), 'all its pixels are transparent'),
  'beyond the palette': (png(7 * index, 8, 3, palette=LEFT + RIGHT), 'not among the 2 of'),
  '16 bits and a colour key': (png(deep, 16, 2, key=words(*deep[0, 0])), 'transparent colour'),
  'floats': (encode(Image.fromarray(grey.astype(np.float32)), 'TIFF'), 'which value is white'),
  '32 bits': (encode(Image.fromarray(grey.astype(np.int32)), 'TIFF'), 'which value is white'),
  'signed': (tiff(deep_grey.astype('<i2'), 16, 1, sample_format=2), 'which value is white'),
  'white is 0, 16 bits': (tiff(deep_grey, 16, 0), 'which value is white'),
  '12 bits': (tiff(np.zeros((32, 72), np.uint8), 12, 1), '12|truncated'),
}
