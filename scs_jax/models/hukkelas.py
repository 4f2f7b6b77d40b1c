"""The larger SCS networks of Håkon Hukkelås."""

from collections.abc import Sequence

import jax
from flax import nnx

from scs_jax.models.parts import DEEP, LayerOptions, Layers, sum_of_paths


class Level(nnx.Module):
  """Two layers and a pool, with or without a shortcut; the first layer doubles the features."""

  def __init__(self, make: Layers, in_features: int, residual: bool):
    features = 2 * in_features
    self.first = make.layer(in_features, features, 3)
    self.second = make.layer(features, features, 3, activation=None if residual else nnx.relu)
    self.pool = make.pool(2)
    self.shortcut = make.layer(in_features, features, 1, activation=None) if residual else None
    self.variant = make.options.variant

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, *half, 2 in_features]`."""
    y = self.pool(self.second(self.first(x)))
    if self.shortcut is None:
      return y
    return sum_of_paths(self.variant, self.shortcut(self.pool(x)), y)


class HukkelasNet(nnx.Module):
  """A 7 x 7 layer, levels of two 3 x 3 layers and a pool, and a head on the flattened last map.

  At 32 pixels the 'revised' network has 1,207,825 parameters. 'Revised residual', 1,251,284, has a
  shortcut around each level, which pools before it compares.

  References:
    github.com/hukkelas/sharpened_cosine_similarity_torch.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    width: int = 32,
    levels: int = 3,
    residual: bool = False,
    options: LayerOptions = DEEP,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      width: features of the first layer; every level doubles them.
      levels: number of levels; each halves the image.
      residual: whether levels have a shortcut.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.
    """
    make = Layers(options, len(input_shape) - 1, rngs)
    self.stem = make.layer(input_shape[-1], width, 7)
    self.levels = nnx.List([Level(make, width * 2**i, residual) for i in range(levels)])
    values, features = 1, width * 2**levels
    for size in input_shape[:-1]:
      values *= -(-size // 2**levels)
    make.finish()
    self.head = make.head(values * features, num_classes)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    return self.head(self.features(x))

  def features(self, x: jax.Array) -> jax.Array:
    """Returns what the head sees, `[batch, features]`, for images `[batch, *spatial, channels]`."""
    x = self.stem(x)
    for level in self.levels:
      x = level(x)
    return x.reshape(x.shape[0], -1)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return self.stem
