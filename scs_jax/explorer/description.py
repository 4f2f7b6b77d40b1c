"""A trained network as plain data: what `network.js` computes with."""

import base64
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scs_jax.errors import ArgumentError
from scs_jax.layers.nnx import AbsMaxPool, SharpenedCosineSimilarity
from scs_jax.models.scs_net import ScsNet
from scs_jax.ops.arguments import resolve_window

KINDS = (SharpenedCosineSimilarity, AbsMaxPool, nnx.Linear)  # and jnp.abs


def describe(model: nnx.Module, input_shape: Sequence[int]) -> dict[str, Any]:
  """Returns a network and its weights as JSON values.

  Args:
    model: an `ScsNet` of SCS layers.
    input_shape: `(height, width, channels)` of one image; 1 or 3 channels.

  Returns:
    `input`, the shape of the image, `parameters`, their number, the `dtype` of the logits, and
    `layers`. Each layer has its
    `kind`, 'scs', 'pool', 'abs' or 'head', the shapes of its `input` and `output`, and what that
    kind needs. A layer that is applied again names the earlier one in `sameAs`. Arrays are float32
    in base64.

  Raises:
    ArgumentError: the page cannot show this network; the message says why.
  """
  if not isinstance(model, ScsNet):
    raise ArgumentError(
      f'the explorer shows networks of the kind scs_net, and this one is a {type(model).__name__}'
    )
  if len(input_shape) != 3 or input_shape[-1] not in (1, 3):
    raise ArgumentError(
      'the explorer shows networks for images [height, width, channels] with 1 or 3 channels; '
      f'this one takes {list(input_shape)}'
    )
  for name in model.names:
    layer = getattr(model, name)
    if layer is not jnp.abs and not isinstance(layer, KINDS):
      raise ArgumentError(
        'the explorer shows SCS layers, absolute max pools, magnitudes and a linear head; layer '
        f'{name} of this network is a {type(layer).__name__}, as a convolutional twin has'
      )
  image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  outputs = jax.eval_shape(lambda x: [y for _, y in model.activations(x)], image)
  shapes = [tuple(input_shape), *(output.shape[1:] for output in outputs)]
  layers: list[dict[str, Any]] = []
  for i, name in enumerate(model.names):
    described = _layer(getattr(model, name), shapes[i])
    described |= {'input': shapes[i], 'output': shapes[i + 1]}
    if name in model.names[:i]:
      described['sameAs'] = model.names.index(name)
      del described['kernel']
    layers.append(described)
  parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
  return {
    'input': shapes[0],
    'parameters': parameters,
    'dtype': outputs[-1].dtype.name,
    'layers': layers,
  }


def encode(array: jax.typing.ArrayLike) -> str:
  """Returns the float32 values of an array, little-endian, in base64."""
  return base64.b64encode(np.asarray(array, '<f4').tobytes()).decode()


def _layer(layer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
  """Describes one layer for an input of `shape`."""
  if layer is jnp.abs:
    return {'kind': 'abs'}
  if isinstance(layer, AbsMaxPool):
    window = resolve_window(
      shape[:-1], layer.window_shape, layer.strides, layer.padding, shape_name='window_shape'
    )
    return {
      'kind': 'pool',
      'window': window.shape,
      'strides': window.strides,
      'pads': window.padding,
    }
  if isinstance(layer, nnx.Linear):
    bias = np.zeros(layer.out_features) if layer.bias is None else layer.bias[...]
    return {'kind': 'head', 'kernel': encode(layer.kernel[...]), 'bias': encode(bias)}
  return _similarity(layer, shape)


def _similarity(layer: SharpenedCosineSimilarity, shape: tuple[int, ...]) -> dict[str, Any]:
  if layer.mask is not None or layer.input_dilation not in (None, 1):
    raise ArgumentError('a layer with mask or input_dilation has no page yet')
  window = resolve_window(
    shape[:-1],
    layer.kernel_size,
    layer.strides,
    layer.padding,
    layer.kernel_dilation,
    shape_name='kernel_size',
  )
  repeats = layer.feature_group_count if layer.share_kernels else 1
  spread = lambda value: np.tile(np.broadcast_to(value, layer.kernel.shape[-1:]), repeats)
  return {
    'kind': 'scs',
    'window': window.shape,
    'strides': window.strides,
    'pads': window.padding,
    'dilation': window.dilation,
    'groups': layer.feature_group_count,
    'kernel': encode(np.tile(np.asarray(layer.kernel[...], np.float32), repeats)),
    'p': encode(spread(layer.p)),
    'q': encode(spread(layer.q)),
    'kernelQ': None if layer.kernel_q is None else encode(spread(layer.kernel_q)),
    'unit': layer.output == 'unit',
    'norm': layer.output == 'b_cos',
    'scale': 1.0 if layer.scale_init is None else float(layer.scale[...]),
    'center': layer.center,
  }
