"""A line of text for a stack of layers, e.g. 's40x5/2 a d p48 a P2 h'.

s40x5/2       SCS layer: 40 kernels of 5×5, stride 2; s40x5v has padding VALID
d  d2  dx4v   depthwise layer: 3×3 kernels; two for each channel; 4×4 with padding VALID
dS2           depthwise layer: two kernels that all channels share
p48           pointwise layer of 48 kernels
=3            layer 3 again, counted from 0, with the same parameters
a             magnitude
P2  P3/2      absolute max pool of 2×2; of 3×3 with stride 2
h             head
s40x5+4^2.5   q starts at 4 and p at 2.5 in this layer, unlike in the others
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from scs_jax.errors import ArgumentError
from scs_jax.models import LayerOptions
from scs_jax.models.scs_net import KINDS

_NUMBER = r'\d+(?:\.\d+)?(?:e-\d+)?'


def parse(text: str) -> tuple[dict, ...]:
  """Returns the stack that the text describes.

  Raises:
    ArgumentError: a word is not in the notation.

  Example:
    >>> from experiments.records.notation import parse
    >>> parse('p8 h')
    ({'kind': 'pointwise', 'features': 8}, {'kind': 'head'})
  """
  return tuple(_parse_word(word) for word in text.split())


def describe(stack: Iterable[Mapping]) -> str:
  """Returns the text for a stack. Other paddings than 'VALID' are left out, and those of pools."""
  return ' '.join(_describe_layer({**KINDS[layer['kind']], **layer}) for layer in stack)


def recipe(config: Any) -> dict[str, str]:
  """Returns the network and the recipe of a config in words, for a log that outlives the config."""
  model, augment = config.model, config.augment
  network, words = _stack(model) if 'stack' in model else _architecture(model)
  words += [
    f'batch {config.batch_size}',
    f'rate {config.optimizer.schedule.peak_learning_rate:g}',
    f'shift {augment.shift}',
  ]
  words += [f'EMA {config.ema_decay:g}'] if config.ema_decay else []
  words += ['flips'] if augment.flip else []
  words += [
    f'{name} {augment[name]:g}'
    for name in ('rotate', 'translate', 'shear', 'cutout')
    if augment[name]
  ]
  words += [] if tuple(augment.scale) == (1, 1) else ['size {:g} to {:g}'.format(*augment.scale)]
  words += [f'labels smoothed by {config.label_smoothing:g}'] if config.label_smoothing else []
  return {'network': network, 'recipe': ', '.join(words)}


def _stack(model: Any) -> tuple[str, list[str]]:
  kernel_q = '' if model.kernel_q is None else f' ({model.kernel_q:g} of kernels)'
  return describe(model.stack), [
    f'q {model.q_mode} from {model.q_init:g}{kernel_q}',
    f'p {model.p_mode} from {model.p_init:g}',
    f'scale {model.scale_init}',
  ]


def _architecture(model: Any) -> tuple[str, list[str]]:
  """Returns the sizes of an architecture by name, and how its layers start."""
  options = {field.name for field in dataclasses.fields(LayerOptions)}
  sizes = [f'{name} {x}' for name, x in model.items() if name not in ('name', *options)]
  return ', '.join([model.name, *sizes]), [
    f'q {model.q_init:g}',
    f'p from {model.p_init:g}',
    f'output {model.output}',
  ]


def _parse_word(word: str) -> dict[str, Any]:
  match = re.fullmatch(rf'(.*?)(?:\+({_NUMBER}))?(?:\^({_NUMBER}))?', word)
  assert match is not None  # `.*?` takes any word
  layer, q, p = match.groups()
  begin = {name: float(x) for name, x in (('q_init', q), ('p_init', p)) if x}
  if match := re.fullmatch(r's(\d+)x(\d+)(v?)(?:/(\d+))?', layer):
    sizes = {'features': int(match[1]), 'window': int(match[2]), 'strides': int(match[4] or 1)}
    return {'kind': 'scs', **sizes, **_padding(match[3]), **begin}
  if match := re.fullmatch(r'd(S?)(\d*)(?:x(\d+))?(v?)', layer):
    shared = {'share_kernels': True} if match[1] else {}
    sizes = {n: int(x) for n, x in (('multiplier', match[2]), ('window', match[3])) if x}
    return {'kind': 'depthwise', **shared, **sizes, **_padding(match[4]), **begin}
  if match := re.fullmatch(r'p(\d+)', layer):
    return {'kind': 'pointwise', 'features': int(match[1]), **begin}
  if word in ('a', 'h'):
    return {'kind': {'a': 'abs', 'h': 'head'}[word]}
  if match := re.fullmatch(r'=(\d+)', word):
    return {'kind': 'again', 'layer': int(match[1])}
  if match := re.fullmatch(r'P(\d+)(?:/(\d+))?', word):
    strides = {'strides': int(match[2])} if match[2] else {}
    return {'kind': 'pool', 'window': int(match[1]), **strides}
  raise ArgumentError(
    f'a stack has {word!r}; a word is s8x5, s8x5/2, d, d2, dS2, dx4v, p20, p20+4^2.5, =3, a, P2, '
    'P3/2 or h'
  )


def _padding(valid: str) -> dict[str, Any]:
  return {'padding': 'VALID'} if valid else {}


def _describe_layer(layer: Mapping) -> str:
  match layer['kind']:
    case 'scs':
      strides = '' if layer['strides'] == 1 else f'/{layer["strides"]}'
      return f's{layer["features"]}x{layer["window"]}{_valid(layer)}{strides}{_begin(layer)}'
    case 'depthwise':
      shared, count = 'S' * layer['share_kernels'], layer['multiplier']
      window = '' if layer['window'] == 3 else f'x{layer["window"]}'
      return f'd{shared}{count if count > 1 else ""}{window}{_valid(layer)}{_begin(layer)}'
    case 'pointwise':
      return f'p{layer["features"]}{_begin(layer)}'
    case 'pool':
      strides = '' if layer['strides'] is None else f'/{layer["strides"]}'
      return f'P{layer["window"]}{strides}'
    case 'again':
      return f'={layer["layer"]}'
    case kind:
      return kind[0]


def _valid(layer: Mapping) -> str:
  return 'v' if layer['padding'] == 'VALID' else ''


def _begin(layer: Mapping) -> str:
  signs = (('+', layer['q_init']), ('^', layer['p_init']))
  return ''.join(f'{sign}{x:g}' for sign, x in signs if x is not None)
