"""ConvMixer of SCS layers, and its convolutional twin."""

from collections.abc import Sequence

import jax
from flax import nnx

from scs_jax.errors import ArgumentError
from scs_jax.models.parts import DEEP, LayerOptions, Layers, global_mean


class ConvMixer(nnx.Module):
  """Patches, then pairs of a depthwise layer with a shortcut and a pointwise layer.

  ConvMixer-256/8, published for CIFAR-10, has window 5 and patches of 2. ConvMixer-768/32, for
  ImageNet, has window 7 and patches of 7. The twin's activation is a GELU.

  References:
    Trockman and Kolter, 2022: Patches Are All You Need?
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    width: int = 256,
    depth: int = 8,
    window: int = 5,
    patch: int = 2,
    options: LayerOptions = DEEP,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      width: features of every layer.
      depth: pairs of a depthwise and a pointwise layer.
      window: of the depthwise layers.
      patch: window and strides of the first layer.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.

    Raises:
      ArgumentError: if the image is smaller than a patch.
    """
    if patch > min(input_shape[:-1]):
      raise ArgumentError(
        f'patch {patch} must be at most the size of the image, {input_shape[:-1]}'
      )
    make = Layers(options, len(input_shape) - 1, rngs)
    self.patches = make.layer(
      input_shape[-1], width, patch, patch, padding='VALID', activation=nnx.gelu
    )
    self.depthwise = nnx.List(
      [make.layer(width, width, window, groups=width, activation=nnx.gelu) for _ in range(depth)]
    )
    self.pointwise = nnx.List(
      [make.layer(width, width, 1, activation=nnx.gelu) for _ in range(depth)]
    )
    make.finish()
    self.head = make.head(width, num_classes)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    return self.head(self.features(x))

  def features(self, x: jax.Array) -> jax.Array:
    """Returns what the head sees, `[batch, features]`, for images `[batch, *spatial, channels]`."""
    x = self.patches(x)
    for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
      x = pointwise(x + depthwise(x))
    return global_mean(x)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.patches
