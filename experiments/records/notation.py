"""A line of text for a stack of layers: s40x5/2 a d p48 a P2 h.

s40x5/2 is an SCS layer of 40 kernels, 5×5, with stride 2; d a depthwise layer, p48 a pointwise one, a the
magnitude, P2 an absolute max pool (P3/2 has stride 2), h the head. Depthwise kernels are 3×3; d2 has two for
each channel, dS2 two that all channels share. =3 is layer 3 again, counted from 0, with the same parameters.
"""

import re
from collections.abc import Iterable, Mapping

from scs_jax.models.scs_net import KINDS


def parse(text: str) -> tuple[dict, ...]:
  """Returns the stack that the text describes."""
  return tuple(_parse_word(word) for word in text.split())


def describe(stack: Iterable[Mapping]) -> str:
  """Returns the text for a stack; padding is not in it."""
  return ' '.join(_describe_layer({**KINDS[layer['kind']], **layer}) for layer in stack)


def recipe(config) -> dict[str, str]:
  """Returns the network and the recipe of a config in words, to be logged: configs move on."""
  model, augment = config.model, config.augment
  words = [
    f'q {model.q_init:g}' + ('' if model.kernel_q is None else f' ({model.kernel_q:g} of kernels)'),
    f'p {model.p_mode} from {model.p_init:g}', f'scale {model.scale_init}',
    f'batch {config.batch_size}', f'rate {config.optimizer.schedule.peak_learning_rate:g}',
    f'shift {augment.shift}', f'EMA {config.ema_decay:g}',
  ]  # fmt: skip
  words += ['flips'] if augment.flip else []
  words += [
    f'{name} {augment[name]:g}'
    for name in ('rotate', 'translate', 'shear', 'cutout')
    if augment[name]
  ]
  words += [] if tuple(augment.scale) == (1, 1) else ['size {:g} to {:g}'.format(*augment.scale)]
  words += [f'labels smoothed by {config.label_smoothing:g}'] if config.label_smoothing else []
  return {'network': describe(model.stack), 'recipe': ', '.join(words)}


def _parse_word(word: str) -> dict:
  if word in ('a', 'h'):
    return {'kind': {'a': 'abs', 'h': 'head'}[word]}
  if match := re.fullmatch(r'd(S?)(\d*)', word):
    multiplier = {'multiplier': int(match[2])} if match[2] else {}
    return {'kind': 'depthwise', **multiplier, **({'share_kernels': True} if match[1] else {})}
  if match := re.fullmatch(r'p(\d+)', word):
    return {'kind': 'pointwise', 'features': int(match[1])}
  if match := re.fullmatch(r'=(\d+)', word):
    return {'kind': 'again', 'layer': int(match[1])}
  if match := re.fullmatch(r'P(\d+)(?:/(\d+))?', word):
    strides = {'strides': int(match[2])} if match[2] else {}
    return {'kind': 'pool', 'window': int(match[1]), **strides}
  if match := re.fullmatch(r's(\d+)x(\d+)(?:/(\d+))?', word):
    features, window, strides = (int(group or 1) for group in match.groups())
    return {'kind': 'scs', 'features': features, 'window': window, 'strides': strides}
  raise ValueError(
    f'a stack has {word!r}; a word is s8x5, s8x5/2, d, d2, dS2, p20, =3, a, P2, P3/2 or h'
  )


def _describe_layer(layer: Mapping) -> str:
  match layer['kind']:
    case 'scs':
      strides = '' if layer['strides'] == 1 else f'/{layer["strides"]}'
      return f's{layer["features"]}x{layer["window"]}{strides}'
    case 'depthwise':
      shared, count = 'S' * layer['share_kernels'], layer['multiplier']
      return f'd{shared}{count if count > 1 else ""}'
    case 'pointwise':
      return f'p{layer["features"]}'
    case 'pool':
      strides = '' if layer['strides'] is None else f'/{layer["strides"]}'
      return f'P{layer["window"]}{strides}'
    case 'again':
      return f'={layer["layer"]}'
    case kind:
      return kind[0]
