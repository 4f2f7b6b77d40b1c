"""ConvMixer of SCS layers, and its convolutional twin."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.models.parts import Maker, global_mean, run


class ConvMixer(nnx.Module):
  """Patches, then the same two layers again and again: depthwise beside a shortcut, and pointwise.

  ConvMixer-256/8 has window 5 and patches of 2, as it was published for CIFAR-10; ConvMixer-768/32
  has window 7 and patches of 7, for ImageNet. The twin's activation is a GELU.

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
    variant: str = 'scs',
    output: str = 'unit',
    p_init: float = 1.25,
    q_init: float = 1e-3,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
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
      variant: 'scs' or 'conv'.
      output: size of the SCS layers' output, see `scs_jax.nnx.SharpenedCosineSimilarity`.
      p_init: initial exponent.
      q_init: initial q.
      dtype: of the products and activations.
      param_dtype: of the kernels.
      rngs: streams of random keys; 'params' is used.
    """
    make = Maker(
      variant, len(input_shape) - 1, output=output, p_init=p_init, q_init=q_init, dtype=dtype,
      param_dtype=param_dtype, rngs=rngs,
    )  # fmt: skip
    gelu = {'activation': nnx.gelu}
    self.patches = make.layer(input_shape[-1], width, patch, patch, padding='VALID', **gelu)
    self.depthwise = nnx.List(
      [make.layer(width, width, window, groups=width, **gelu) for _ in range(depth)]
    )
    self.pointwise = nnx.List([make.layer(width, width, 1, **gelu) for _ in range(depth)])
    self.head = nnx.Linear(width, num_classes, **make.types)

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    x = run(self.patches, x, train)
    for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
      x = run(pointwise, x + run(depthwise, x, train), train)
    return self.head(global_mean(x))

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.patches
