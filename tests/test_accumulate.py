"""A batch in parts: gradient accumulation, and mixup, which must not notice it."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from scs_jax import data
from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment, losses, sharding
from scs_jax.train.config import default
from scs_jax.train.mixup import mixup

STACK = ({'kind': 'scs', 'features': 4, 'strides': 4}, {'kind': 'head'})
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
EXAMPLES = data.Examples(PIXELS, np.arange(32, dtype=np.int32) % 4, num_classes=4)


def small(**changes) -> ConfigDict:
  config = default()
  config.model.stack = STACK
  config.batch_size = 32
  config.total_epochs = 4
  config.ema_decay = 0.5
  config.label_smoothing = 0.1
  config.augment.shift = 1
  with config.unlocked():
    config.update(changes)
  return config


def train(config, steps=2):
  """Returns the state and the metrics after some steps."""
  experiment = Experiment(config, train=EXAMPLES, test=EXAMPLES)
  mesh = experiment.mesh()
  state, step = experiment.first_state(mesh), experiment.train_step(mesh)
  batches, values = experiment.train_batches(), {}
  for _ in range(steps):
    state, values = step(state, sharding.to_global(mesh, next(batches)))
  return jax.device_get(state), jax.device_get(values)


@pytest.mark.parametrize('mixup', [0.0, 0.3])
def test_parts_equal_the_whole_batch(quick_compilation, mixup):
  whole, parts = small(), small(accumulate_steps=4)
  for config in (whole, parts):
    config.augment.mixup = mixup
  (state, values), (in_parts, same) = train(whole), train(parts)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), state, in_parts)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), same, values)
  assert in_parts.average.steps == 2  # whole steps


def test_batch_norm_sees_each_part_alone(quick_compilation):
  """Its running mean moves once for each part, which is what the docstring says."""
  config = small(accumulate_steps=2, ema_decay=None)
  config.model.variant = 'conv'
  config.augment.shift = 0
  experiment = Experiment(config, train=EXAMPLES, test=EXAMPLES)
  mesh = experiment.mesh()
  state, rows = experiment.first_state(mesh), next(experiment.train_batches())
  conv = experiment.structure.merge(state.params, state.statistics).scs_0.conv
  means = [np.asarray(conv(rows['image'][i::2] / 255.0)).mean((0, 1, 2)) for i in range(2)]
  wanted = 0.99 * (0.01 * means[0]) + 0.01 * means[1]
  state, _ = experiment.train_step(mesh)(state, sharding.to_global(mesh, rows))
  np.testing.assert_allclose(state.statistics['scs_0']['norm']['mean'], wanted, rtol=1e-3)


def test_parts_and_mixup_move_no_images_between_devices(quick_compilation):
  config = small(accumulate_steps=2)
  config.augment.mixup = 0.2
  experiment = Experiment(config, train=EXAMPLES, test=EXAMPLES)
  mesh = experiment.mesh()
  rows = sharding.to_global(mesh, next(experiment.train_batches()))
  compiled = experiment.train_step(mesh).lower(experiment.abstract_state(mesh), rows).compile()
  kinds = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
  found = collections.Counter(re.findall(rf' ({"|".join(kinds)})(?:-start)?\(', compiled.as_text()))
  assert set(found) == {'all-reduce'}


def test_a_batch_must_divide_into_the_parts():
  with pytest.raises(
    ArgumentError, match=r'batch_size 32 .* 8 devices times the 3 parts.*use 24 or 48'
  ):
    train(small(accumulate_steps=3))
  config = small(batch_size=8)
  config.augment.mixup = 0.2
  with pytest.raises(ArgumentError, match=r'batch_size 8 .* 2 parts .*augment\.mixup.*: use 16'):
    train(config)


def test_mixup_blends_neighbours_and_their_labels():
  keys = jax.random.split(jax.random.key(0), 64)
  images = jnp.arange(64.0)[:, None, None, None] * jnp.ones((1, 2, 2, 1))
  labels = jnp.arange(64) % 3
  blend = jax.jit(functools.partial(mixup, alpha=0.4, num_classes=3))
  mixed, targets = blend(keys, images, labels)
  assert mixed.shape == images.shape
  np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)
  own = np.arange(64)
  other = own ^ 1
  share = (np.asarray(mixed)[:, 0, 0, 0] - other) / (own - other)
  assert ((share >= -1e-5) & (share <= 1 + 1e-5)).all()
  assert share.std() > 0.2  # each example has its own
  np.testing.assert_allclose(np.asarray(targets)[own, labels], share, atol=1e-4)
  np.testing.assert_allclose(np.asarray(targets)[own, labels[other]], 1 - share, atol=1e-4)
  # An example's share does not depend on its place in the batch.
  turned, _ = blend(*(jnp.roll(rows, 2, 0) for rows in (keys, images, labels)))
  np.testing.assert_array_equal(turned, np.roll(mixed, 2, 0))


def test_soft_labels_are_means_over_hard_ones():
  logits = jax.random.normal(jax.random.key(1), (5, 4))
  one, other = jnp.array([0, 1, 2, 3, 0]), jnp.array([1, 1, 3, 0, 2])
  soft = 0.3 * jax.nn.one_hot(one, 4) + 0.7 * jax.nn.one_hot(other, 4)
  values = lambda labels: losses.classification(logits, logits, labels, 0.1)
  mean = jax.tree.map(lambda a, b: 0.3 * a + 0.7 * b, values(one), values(other))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), values(soft), mean)
