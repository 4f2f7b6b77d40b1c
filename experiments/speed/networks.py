"""Whole training steps: the networks, and the step that the training loop makes of each."""

import pathlib
import runpy
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx

from scs_jax import models, train
from scs_jax.train import losses, optim, sharding
from scs_jax.data import augment
from scs_jax.models.parts import ConvBlock

ROOT = pathlib.Path(__file__).parent.parent.parent
BATCH = 128
ADAMW = {
  'name': 'adamw',
  'schedule': {'name': 'constant', 'peak_learning_rate': 0.01},
  'momentum': 0.9,
}


def gallery(name: str) -> tuple:
  """Returns the stack of a network of `configs/gallery.py`."""
  path = ROOT / 'configs' / 'gallery.py'
  return runpy.run_path(str(path))['get_config'](name).model.stack


def networks() -> dict[str, tuple[tuple[int, ...], dict]]:
  """Returns the image and the sizes of each network."""
  stack = lambda name: {'name': 'scs_net', 'stack': gallery(name)}
  return {
    'MNIST, 1,233 parameters': ((28, 28, 1), stack('mnist_smoke')),
    'CIFAR, 24,974 parameters': ((32, 32, 3), stack('cifar10_80_25214')),
    'CIFAR 32-64-128': ((32, 32, 3), stack('cifar10_15_9')),
    'ResNet-18 at 32 pixels': ((32, 32, 3), {'name': 'resnet'}),
  }


def make_step(
  image,
  sizes,
  variant,
  dtype=None,
  batch=BATCH,
  objective=losses.classification,
  augmentation=lambda keys, images: images,
  num_classes=10,
  optimizer=ADAMW,
  label_smoothing=0.0,
  ema_decay=None,
  gather=lambda params: params,
):
  """Returns `(step, make_state, batch)`, the pure training step and what it is called with."""
  sizes = {**sizes, 'variant': variant, 'dtype': dtype}
  optimizer = optim.make(1000, **optimizer)

  def build():
    return models.build(**sizes, input_shape=image, num_classes=num_classes, rngs=nnx.Rngs(0))

  graph, make_state = train.split_model(build, optimizer, averaged=ema_decay is not None)
  step = train.make_train_step(
    graph,
    optimizer,
    objective=objective,
    augmentation=augmentation,
    label_smoothing=label_smoothing,
    ema_decay=ema_decay,
    seed=0,
    gather=gather,
  )
  shape = lambda *size, dtype=jnp.int32: jax.ShapeDtypeStruct((batch, *size), dtype)
  examples = {
    'image': shape(*image, dtype=jnp.uint8),
    'label': shape(),
    'epoch': shape(),
    'index': shape(),
  }
  return step, make_state, examples


def sharded(step, mesh, make_state):
  """Returns the step jitted as the loop does it, and the shardings of the state."""
  shardings = sharding.state_shardings(mesh, jax.eval_shape(make_state))
  jitted = jax.jit(
    step,
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
    donate_argnums=0,
  )
  return jitted, shardings


def timed_step(image, sizes, variant, **more):
  """Returns a function of no argument that makes a step, sharded as the loop shards it."""
  step, make_state, shapes = make_step(image, sizes, variant, **more)
  mesh = sharding.make_mesh()
  step, shardings = sharded(step, mesh, make_state)
  rows = sharding.batch_sharding(mesh)
  key = jax.random.key(0)
  batch = {
    name: jax.device_put(jax.random.randint(key, s.shape, 0, 10).astype(s.dtype), rows)
    for name, s in shapes.items()
  }
  held = [jax.jit(make_state, out_shardings=shardings)()]

  def run():
    held[0], metrics = step(held[0], batch)
    return metrics['loss']

  return run


def step_of(config, image):
  """Returns `timed_step` for what a config trains on images of that shape."""
  model = config.model.to_dict()
  return timed_step(
    image,
    model,
    model.pop('variant'),
    dtype=model.pop('dtype'),
    batch=config.batch_size,
    augmentation=augment.make(**config.augment),
    optimizer=config.optimizer.to_dict(),
    ema_decay=config.ema_decay,
  )


def floor_step(image, sizes):
  """Returns what `timed_step` does for the twin without BatchNorm and ReLU: convolutions, pools, head."""
  run = timed_step(image, sizes, 'conv')
  with mock.patch.object(ConvBlock, '__call__', lambda block, x, train: block.conv(x)):
    run()  # traced here, once for all
  return run
