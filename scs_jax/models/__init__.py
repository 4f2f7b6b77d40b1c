"""Architectures, built by name from plain sizes."""

import inspect

from flax import nnx

from scs_jax.models.autoencoder import Autoencoder
from scs_jax.models.cct import CompactTransformer
from scs_jax.models.convmixer import ConvMixer
from scs_jax.models.densenet import DenseNet
from scs_jax.models.hukkelas import HukkelasNet
from scs_jax.models.resnet import ResNet
from scs_jax.models.scs_net import ScsNet
from scs_jax.errors import check_known

MODELS = {
  'autoencoder': Autoencoder,
  'cct': CompactTransformer,
  'convmixer': ConvMixer,
  'densenet': DenseNet,
  'hukkelas': HukkelasNet,
  'resnet': ResNet,
  'scs_net': ScsNet,
}


def build(name: str, **sizes) -> nnx.Module:
  """Builds the model `name`.

  Args:
    name: a key of `MODELS`.
    **sizes: the arguments of its class, `rngs` among them.

  Raises:
    ValueError: for an unknown name or argument; the message names the nearest.
  """
  check_known('model', name, MODELS)
  _, *arguments = inspect.signature(MODELS[name].__init__).parameters  # the first is self
  for size in sizes:
    check_known(f'argument of model {name!r}', size, arguments)
  return MODELS[name](**sizes)
