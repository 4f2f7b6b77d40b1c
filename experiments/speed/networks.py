"""Whole training steps of networks, on images that need no data set."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from experiments.results import Trial
from scs_jax.data import Examples
from scs_jax.models.parts import ConvBlock
from scs_jax.train import Experiment, sharding
from scs_jax.train import config as configuration

BATCH = 128
CLASSES = 10


class WithoutBlocks(Experiment):
  """Trains the convolutions of a twin, with its pools and its head but no BatchNorm and no ReLU."""

  def model(self) -> nnx.Module:
    """Returns the twin with every block replaced by its convolution."""
    twin = super().model()
    for _, module in nnx.iter_modules(twin):
      for name, child in list(vars(module).items()):
        if isinstance(child, ConvBlock):
          setattr(module, name, child.conv)
    return twin


def networks() -> dict[str, tuple[tuple[int, int, int], dict[str, Any]]]:
  """Returns the shape of an image and the arguments of the model, by the name of the network."""

  def net(name: str) -> dict[str, Any]:
    config: Any = Trial(f'configs/gallery.py:{name}', seed=0).load()
    return {'name': 'scs_net', 'stack': config.model.to_dict()['stack']}

  return {
    'MNIST, 1,233 parameters': ((28, 28, 1), net('mnist_smoke')),
    'CIFAR, 24,974 parameters': ((32, 32, 3), net('cifar10_80_25214')),
    'CIFAR 32-64-128': ((32, 32, 3), net('cifar10_15_9')),
    'ResNet-18 at 32 pixels': ((32, 32, 3), {'name': 'resnet'}),
  }


def settings(
  model: Mapping[str, Any], *, batch_size: int = BATCH, objective: str = 'classification'
) -> ConfigDict:
  """Returns the config that all networks are compared with: Adam, no augmentation, no average.

  Args:
    model: the arguments of `scs_jax.models.build`, `name` among them.
    batch_size: examples per step.
    objective: a key of `losses.OBJECTIVES`.
  """
  config = configuration.default(model['name'])
  config.model.update(model)
  config.batch_size, config.objective = batch_size, objective
  config.optimizer.schedule.update(name='constant', peak_learning_rate=0.01)
  config.optimizer.momentum, config.optimizer.cycle_momentum_to = 0.9, None
  return config


def examples(image: tuple[int, int, int], count: int, num_classes: int = CLASSES) -> Examples:
  """Returns `count` random images of the shape `image`, with random labels."""
  rng = np.random.default_rng(0)
  images = rng.integers(256, size=(count, *image), dtype=np.uint8)
  return Examples(images, rng.integers(num_classes, size=count, dtype=np.int32), num_classes)


def on_random_images(
  config: ConfigDict, image: tuple[int, int, int], kind: type[Experiment] = Experiment
) -> Experiment:
  """Returns the experiment of `config` on one batch of random images of the shape `image`."""
  rows: Any = config.batch_size
  batch = examples(image, rows)
  return kind(config, train=batch, test=batch)


def batch_shapes(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shape and the type of every array of a training batch."""
  rows, image = experiment.config.batch_size, experiment.sizes['input_shape']
  numbers = jax.ShapeDtypeStruct((rows,), jnp.int32)
  images = jax.ShapeDtypeStruct((rows, *image), jnp.uint8)
  return {'image': images, 'label': numbers, 'epoch': numbers, 'index': numbers}


def timed_step(experiment: Experiment) -> Callable[[], jax.Array]:
  """Returns a function without arguments that makes one training step and returns its loss.

  The step is sharded over all devices, as in the training loop. Every call trains on the same
  batch, the first of the experiment.
  """
  mesh = experiment.mesh()
  step, state = experiment.train_step(mesh), experiment.first_state(mesh)
  batch = sharding.to_global(mesh, next(experiment.train_batches()))

  def run() -> jax.Array:
    nonlocal state
    state, metrics = step(state, batch)
    return metrics['loss']

  return run
