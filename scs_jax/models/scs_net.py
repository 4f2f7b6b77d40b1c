"""A stack of layers, described by data: the networks of the SCS gallery and their twins."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax.errors import ArgumentError, check_known
from scs_jax.models.parts import PLAIN, LayerOptions, Layers

# Settings of one SCS layer. None: as in the other layers.
_OWN = dict.fromkeys(('p_mode', 'p_init', 'q_mode', 'q_init', 'center'))
# The settings of each kind of layer with their defaults; `...` marks a required one.
KINDS = {
  'scs': {'features': ..., 'window': 3, 'strides': 1, 'padding': 'SAME', **_OWN},
  'depthwise': {
    'window': 3,
    'strides': 1,
    'padding': 'SAME',
    'multiplier': 1,
    'share_kernels': False,
    **_OWN,
  },
  'pointwise': {'features': ..., **_OWN},
  'pool': {'window': 2, 'strides': None, 'padding': 'SAME'},
  'abs': {},
  'again': {'layer': ...},
  'head': {},
}


class ScsNet(nnx.Module):
  """A stack of SCS layers and absolute max pools with a linear head, or its convolutional twin.

  Each entry of `stack` is a mapping with `kind` and what `KINDS` lists for it:

  - `scs`: `features`, `window`, `strides`, `padding`;
  - `depthwise`: `window`, `strides`, `padding`, `multiplier` (kernels for each channel),
    `share_kernels` (the same ones for every channel);
  - `pointwise`: `features`, a window of 1;
  - these three also take `p_mode`, `p_init`, `q_mode`, `q_init` and `center`, for this layer alone;
  - `pool`: `window`, `strides` (None is the window), `padding` ('SAME' rounds sizes up);
  - `abs`: the magnitude. SCS layers and absolute max pools are odd functions; after `abs` a feature
    and its opposite look the same to later layers;
  - `again`: `layer`, the index in the stack of an SCS layer that is applied once more with the same
    parameters; its input must have the channels it was made for;
  - `head`: flattens and maps to the classes, with a bias; the last entry.

  With `variant='conv'` every SCS layer becomes convolution + BatchNorm + ReLU of the same shape and
  every pool a max pool. `abs` then changes nothing, because its input is not negative.
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    stack: Sequence[Mapping],
    *,
    options: LayerOptions = PLAIN,
    rngs: nnx.Rngs,
  ):
    """Creates the layers.

    Args:
      input_shape: `(*spatial, channels)` of one image.
      num_classes: outputs of the head.
      stack: the layers, see above.
      options: of the layers, see `scs_jax.models.parts.LayerOptions`.
      rngs: streams of random keys; 'params' is used.

    Raises:
      ArgumentError: naming the layer of the stack, what is wrong with it and what would be right.
    """
    if not stack:
      raise ArgumentError(f"the stack must end with a 'head', got {stack!r}")
    make = Layers(options, len(input_shape) - 1, rngs)
    shape = (1, *input_shape)
    names = []
    for i, description in enumerate(stack):
      try:
        kind, settings = _checked(description, is_last=i == len(stack) - 1)
        if kind == 'again':
          names.append(_earlier(settings['layer'], names))
          shape = _shape_again(getattr(self, names[-1]), shape)
          continue
        layer, shape = _make(kind, settings, shape, num_classes, make)
      except ValueError as error:
        raise ArgumentError(f'layer {i} of the stack, {dict(description)}: {error}') from error
      names.append(f'{kind}_{i}')
      setattr(self, names[-1], layer)
    make.finish()
    self.names = tuple(names)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns logits `[batch, num_classes]` for images `[batch, *spatial, channels]`."""
    *_, (_, logits) = self.activations(x)
    return logits

  def features(self, x: jax.Array) -> jax.Array:
    """Returns what the head sees, `[batch, features]`, for images `[batch, *spatial, channels]`."""
    for name in self.names[:-1]:
      x = self._after(name, x)
    return x.reshape(x.shape[0], -1)

  def activations(self, x: jax.Array) -> Iterator[tuple[str, jax.Array]]:
    """Yields the name and the output of every layer, the logits last.

    A layer that is applied again is yielded again, under the same name.
    """
    for name in self.names:
      x = self._after(name, x)
      yield name, x

  def _after(self, name: str, x: jax.Array) -> jax.Array:
    layer = getattr(self, name)
    with jax.named_scope(name):
      return layer(x.reshape(x.shape[0], -1) if name.startswith('head') else x)

  @property
  def first_layer(self) -> nnx.Module:
    """The layer that sees the image."""
    return getattr(self, self.names[0])


def _make(
  kind: str, settings: dict, shape: tuple[int, ...], num_classes: int, make: Layers
) -> tuple[Callable, tuple[int, ...]]:
  """Returns the layer for an input of `shape`, and the shape of its output."""
  features = shape[-1]
  if kind == 'abs':
    return jnp.abs, shape
  if kind == 'head':
    return make.head(math.prod(shape[1:]), num_classes), (1, num_classes)
  if kind == 'pool':
    layer = make.pool(settings['window'], settings['strides'], settings['padding'])
    return layer, _output_shape(layer, shape)
  if settings.get('share_kernels') and make.options.variant == 'conv':
    raise ArgumentError('share_kernels has no convolutional twin')
  layer = make.layer(
    features,
    features * settings['multiplier'] if kind == 'depthwise' else settings['features'],
    1 if kind == 'pointwise' else settings['window'],
    settings.get('strides', 1),
    padding=settings.get('padding', 'SAME'),
    groups=features if kind == 'depthwise' else 1,
    share_kernels=settings.get('share_kernels', False),
    **{name: settings[name] for name in _OWN if settings[name] is not None},
  )
  return layer, _output_shape(layer, shape)


def _earlier(number, names):
  """Returns the name of the SCS layer with that number, one of those in `names`."""
  candidates = {
    i: name for i, name in enumerate(names) if name.startswith(('scs', 'depthwise', 'pointwise'))
  }
  if number not in candidates:
    numbers = ', '.join(map(str, candidates)) or 'none'
    raise ArgumentError(
      f'layer must be the number of an SCS layer before it ({numbers}), got {number!r}'
    )
  return candidates[number]


def _shape_again(layer, shape):
  """Returns the shape of the output; the channels of the input must be those of the layer."""
  layer = getattr(layer, 'conv', layer)
  if shape[-1] != layer.in_features:
    raise ArgumentError(
      f'the layer takes {layer.in_features} channels and would be given {shape[-1]}'
    )
  return _output_shape(layer, shape)


def _checked(description: Mapping, *, is_last: bool) -> tuple[str, dict]:
  settings = dict(description)
  kind = settings.pop('kind', None)
  check_known('kind', kind, KINDS)
  if (kind == 'head') != is_last:
    raise ArgumentError("the stack must end with its only 'head'")
  for name in settings:
    check_known(f'setting of {kind!r}', name, KINDS[kind])
  settings = {**KINDS[kind], **settings}
  missing = [name for name, value in settings.items() if value is ...]
  if missing:
    raise ArgumentError(f'{kind} needs {", ".join(missing)}')
  return kind, settings


def _output_shape(layer: Callable, shape: tuple[int, ...]) -> tuple[int, ...]:
  # Of a twin's block only the convolution: BatchNorm cannot update its statistics in eval_shape.
  layer = getattr(layer, 'conv', layer)
  return jax.eval_shape(layer, jax.ShapeDtypeStruct(shape, jnp.float32)).shape
