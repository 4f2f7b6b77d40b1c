"""What every architecture is made of: an SCS layer, or the convolutional block it stands for.

An architecture that builds its layers with `Layers` has a convolutional twin for free.
"""

import copy
import dataclasses
import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.errors import ArgumentError, check_known
from scs_jax.layers import nnx as layers
from scs_jax.ops.arguments import Padding

VARIANTS = ('scs', 'conv')
BY_LAYER = ('p_mode', 'p_init', 'q_mode', 'q_init', 'center')  # the options that may be tuples

Activation = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class LayerOptions:
  """The settings of the layers of a network.

  `p_mode`, `p_init`, `q_mode`, `q_init` and `center` may differ by layer. A tuple has one value for
  each layer in the order in which the network makes them, which begins with the one that sees the
  image. Its last value counts for all layers after it: `center=(True, False)` centres the first
  layer alone.

  Attributes:
    variant: 'scs', or 'conv' for the twin: convolution + BatchNorm + activation.
    output: size of the SCS output: 'bounded', 'unit' or 'b_cos', see
      `scs_jax.nnx.SharpenedCosineSimilarity`, which also describes the next seven.
    p_mode: how p is learned: 'per_kernel', 'shared' or 'fixed'.
    p_init: initial exponent, greater than 0.
    q_mode: how q is learned, like `p_mode`.
    q_init: initial q. 0 means that q is fixed at 0, whatever `q_mode` is: a learned q is positive.
    kernel_q: q of the kernel's norm; None means q.
    center: whether the means of patch and kernel are subtracted.
    scale_init: initial value of a learned output scale; None means no scale.
    dtype: of products and activations; None infers it from input and kernel.
    param_dtype: of the kernels.
  """

  variant: str = 'scs'
  output: str = 'bounded'
  p_mode: str | Sequence[str] = 'per_kernel'
  p_init: float | Sequence[float] = 2.0
  q_mode: str | Sequence[str] = 'shared'
  q_init: float | Sequence[float] = 1e-3
  kernel_q: float | None = None
  center: bool | Sequence[bool] = False
  scale_init: float | None = None
  dtype: jax.typing.DTypeLike | None = None
  param_dtype: jax.typing.DTypeLike = jnp.float32

  def __post_init__(self) -> None:
    check_known('variant', self.variant, VARIANTS)
    for name in BY_LAYER:
      if _is_tuple(value := getattr(self, name)) and not value:
        raise ArgumentError(f'{name} must be a value, or a tuple of at least one; got {value!r}')

  def of_layer(self, number: int) -> dict[str, Any]:
    """Returns the settings by layer, as layer `number` has them."""
    values = {name: getattr(self, name) for name in BY_LAYER}
    return {
      name: value[min(number, len(value) - 1)] if _is_tuple(value) else value
      for name, value in values.items()
    }


def _is_tuple(value: object) -> TypeGuard[Sequence[Any]]:
  return isinstance(value, Sequence) and not isinstance(value, str)


PLAIN = LayerOptions()
# Deep networks need outputs of unit size, so that neither the signal nor its gradient fades. They
# start with little sharpening, because each layer multiplies the gradient by p / sqrt(2 p - 1)
# (experiments/depth/).
DEEP = LayerOptions(output='unit', p_init=1.25)


class ConvBlock(nnx.Module):
  """Convolution without bias, BatchNorm, and an activation."""

  def __init__(self, *args, activation: Activation | None = nnx.relu, rngs: nnx.Rngs, **kwargs):
    types = {'dtype': kwargs['dtype'], 'param_dtype': kwargs['param_dtype'], 'rngs': rngs}
    self.conv = nnx.Conv(*args, use_bias=False, rngs=rngs, **kwargs)
    self.norm = nnx.BatchNorm(self.conv.kernel_shape[-1], **types)
    self.activation = activation

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, *spatial', out]`; statistics are the batch's after `train()`."""
    y = self.norm(self.conv(x))
    return y if self.activation is None else self.activation(y)


class MaxPool(nnx.Module):
  """Max pooling as a module, so that two networks of one kind compare equal as graphs."""

  def __init__(self, window_shape: tuple[int, ...], strides: tuple[int, ...], padding: str):
    self.window_shape, self.strides, self.padding = window_shape, strides, padding

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[batch, *spatial', features]`."""
    return nnx.max_pool(x, self.window_shape, self.strides, self.padding)


class Layers:
  """Makes the layers of one network.

  The first weights of a layer depend only on its place among the layers, because each layer takes
  three keys from the stream, whatever its options are: SCS for kernel, p and q, the twin for its
  kernel and for scale and bias of BatchNorm. Networks that differ in p, q or the variant therefore
  start with the same kernels.

  Attributes:
    options: what all layers share.
    rank: number of spatial dimensions.
    rngs: streams of random keys; 'params' is used.
  """

  def __init__(self, options: LayerOptions, rank: int, rngs: nnx.Rngs):
    self.options, self.rank, self.rngs = options, rank, rngs
    self._numbers = itertools.count()

  def of_rank(self, rank: int) -> 'Layers':
    """Returns the same for another number of spatial dimensions; layers are counted together."""
    other = copy.copy(self)
    other.rank = rank
    return other

  def finish(self) -> None:
    """Checks that no option has a value for a layer that there is not; call it last.

    Raises:
      ArgumentError: names the option and the number of layers.
    """
    made = next(self._numbers)
    for name in BY_LAYER:
      value = getattr(self.options, name)
      if _is_tuple(value) and len(value) > made:
        raise ArgumentError(f'{name} {value!r} has {len(value)} values, for {made} layers')

  @property
  def types(self) -> dict:
    """`dtype` and `param_dtype`, as Flax modules take them."""
    return {'dtype': self.options.dtype, 'param_dtype': self.options.param_dtype}

  def layer(
    self,
    in_features: int,
    features: int,
    window: int,
    strides: int = 1,
    *,
    groups: int = 1,
    padding: Padding = 'SAME',
    activation: Activation | None = nnx.relu,
    **own,
  ) -> nnx.Module:
    """Returns an SCS layer or its twin.

    Args:
      in_features: channels of the input.
      features: channels of the output.
      window: side of the window.
      strides: step of the window.
      groups: number of groups the features are split into.
      padding: as for `scs_jax.nnx.SharpenedCosineSimilarity`.
      activation: of the twin; None means none. SCS has none.
      **own: arguments of this SCS layer alone, such as `p_init`; the twin ignores them.
    """
    shape = {'strides': strides, 'padding': padding, 'feature_group_count': groups}
    place = (in_features, features, (window,) * self.rank)
    options, number = self.options, next(self._numbers)
    if options.variant == 'conv':
      return ConvBlock(*place, **shape, **self.types, activation=activation, rngs=self.rngs)
    settings = {
      'output': options.output,
      'kernel_q': options.kernel_q,
      'scale_init': options.scale_init,
      **options.of_layer(number),
      **own,
    }
    if isinstance(q := settings['q_init'], numbers.Real) and q == 0:
      settings['q_mode'] = 'fixed'
    return layers.SharpenedCosineSimilarity(
      *place, **shape, **self.types, **settings, rngs=self.rngs
    )

  def dense(self, in_features: int, features: int) -> nnx.Module:
    """Returns a layer that sees one position: SCS with a window of 1, or the twin's Linear."""
    if self.options.variant == 'scs':
      return self.layer(in_features, features, 1)
    next(self._numbers)
    layer = nnx.Linear(in_features, features, **self.types, rngs=self.rngs)
    self.rngs.params()  # the third key of a layer, beside those of kernel and bias
    return layer

  def pool(
    self, window: int, strides: int | None = None, padding: str = 'SAME'
  ) -> layers.AbsMaxPool | MaxPool:
    """Returns an absolute max pool, or the twin's max pool; `strides=None` means the window."""
    step = window if strides is None else strides
    kind = layers.AbsMaxPool if self.options.variant == 'scs' else MaxPool
    return kind((window,) * self.rank, (step,) * self.rank, padding)

  def head(self, in_features: int, features: int) -> nnx.Linear:
    """Returns a linear layer with a bias, the same in both variants."""
    return nnx.Linear(in_features, features, **self.types, rngs=self.rngs)

  def norm(self, features: int) -> nnx.LayerNorm | None:
    """Returns the twin's LayerNorm; None for SCS, which needs no normalisation."""
    if self.options.variant == 'scs':
      return None
    return nnx.LayerNorm(features, **self.types, rngs=nnx.Rngs(0))  # its first weights are constant


def sum_of_paths(variant: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns `x + y`, where paths of a network meet; the twin applies ReLU to the sum."""
  return x + y if variant == 'scs' else nnx.relu(x + y)


def global_mean(x: jax.Array) -> jax.Array:
  """Returns the mean over all positions: `[batch, *spatial, features]` to `[batch, features]`."""
  return x.mean(range(1, x.ndim - 1))
