"""An auto-encoder of SCS layers and their transposes, and its convolutional twin."""

import itertools
from collections.abc import Sequence

import jax
from flax import nnx

from scs_jax.errors import ArgumentError
from scs_jax.models.parts import DEEP, LayerOptions, Layers


class Upsampling(nnx.Module):
  """A transposed layer: every input position makes a block of `factor` output positions a side.

  In a transposed convolution the kernels of neighbouring output positions are interleaved in one
  window, so the norm of the window is not the norm of what is compared. Here each position of the
  block has its own kernels (sub-pixel convolution), and every similarity is exact.

  References:
    Shi et al., 2016: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
    Convolutional Neural Network.
  """

  def __init__(self, make: Layers, in_features: int, features: int, window: int, factor: int = 2):
    self.layer = make.layer(in_features, features * factor**make.rank, window)
    self.factor = factor

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, *(factor * spatial), features]`."""
    return depth_to_space(self.layer(x), self.factor)


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
  """Spreads features over space: `[batch, *spatial, factor**rank * features]` becomes
  `[batch, *(factor * spatial), features]`."""
  rank, spatial = x.ndim - 2, x.shape[1:-1]
  x = x.reshape(*x.shape[:-1], *(factor,) * rank, -1)
  order = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
  x = x.transpose(0, *order, x.ndim - 1)
  return x.reshape(x.shape[0], *(factor * size for size in spatial), x.shape[-1])


class Autoencoder(nnx.Module):
  """Layers and pools down to a small code, transposed layers up again, and a linear last layer."""

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    widths: Sequence[int] = (32, 64),
    code: int = 16,
    options: LayerOptions = DEEP,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image; the spatial sizes divide by
        `2 ** len(widths)`.
      num_classes: unused; every model takes it.
      widths: features of the levels of the encoder, each of which halves the image.
      code: features of the code.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.

    Raises:
      ArgumentError: if the image cannot be halved so often.
    """
    del num_classes
    if any(size % 2 ** len(widths) for size in input_shape[:-1]):
      raise ArgumentError(
        f'input_shape {tuple(input_shape)} must divide by {2 ** len(widths)}, because each of the '
        f'widths {widths} halves it; use fewer widths'
      )
    if not widths:
      raise ArgumentError('widths must have an entry for each layer that halves the image, got ()')
    make = Layers(options, len(input_shape) - 1, rngs)
    sizes = (input_shape[-1], *widths)
    self.encoder = nnx.List([make.layer(a, b, 3) for a, b in zip(sizes, widths, strict=False)])
    self.pool = make.pool(2)
    self.code = make.layer(widths[-1], code, 3)
    up = (code, *reversed(widths))
    self.decoder = nnx.List([Upsampling(make, a, b, 3) for a, b in itertools.pairwise(up)])
    make.finish()
    self.pixels = nnx.Conv(widths[0], input_shape[-1], (3,) * make.rank, **make.types, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns images `[batch, *spatial, channels]` for such images."""
    x = self.encode(x)
    for layer in self.decoder:
      x = layer(x)
    return self.pixels(x)

  def encode(self, x: jax.Array) -> jax.Array:
    """Returns the code `[batch, *small, code]`."""
    for layer in self.encoder:
      x = self.pool(layer(x))
    return self.code(x)

  def features(self, x: jax.Array) -> jax.Array:
    """Returns the flat code `[batch, features]` for images `[batch, *spatial, channels]`."""
    return self.encode(x).reshape(x.shape[0], -1)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.encoder[0]
