"""Golden parameter counts, twins, and what a wrong description is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from config_files import load_config, load_module
from flax import nnx

from scs_jax import models

# Counted by hand: an SCS layer of n kernels has n * fan_in weights, n exponents and 1 q; the head
# has (features + 1) * classes.
GALLERY = {
  'cifar10_80_25214': 24_974,
  'cifar10_80_37086': 36_862,
  'cifar10_80_47643': 47_653,
  'cifar10_18_4': 68_029,
  'cifar10_15_9': 113_741,
  'fashion_90_7659': 7_669,
  'fashion_90_3423': 3_423,
  'fashion_90_2764': 2_764,
  'mnist_smoke': 1_233,
}
SHAPES = {'cifar10': (32, 32, 3), 'fashion_mnist': (28, 28, 1), 'mnist': (28, 28, 1)}


def build(config, rngs=None, **changes):
  sizes = {**config.model.to_dict(), **changes}
  shape = SHAPES.get(config.data.name, (28, 28, 1))
  return models.build(**sizes, input_shape=shape, num_classes=10, rngs=rngs or nnx.Rngs(0))


def activations(model, x, train=False):
  """All outputs of the model by name, compiled as one."""
  graph, state = nnx.split(model)
  return jax.jit(lambda state, x: dict(nnx.merge(graph, state).activations(x, train)))(state, x)


def count(build_model):
  params = nnx.state(nnx.eval_shape(build_model), nnx.Param)
  return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize('name', GALLERY)
def test_the_gallery_has_the_published_sizes(name):
  config = load_config('gallery', name)
  assert count(lambda: build(config)) == GALLERY[name]


def test_every_network_of_the_gallery_has_a_golden_count():
  assert set(GALLERY) == set(load_module('gallery').NETWORKS)


def test_every_model_is_covered():
  assert set(models.MODELS) == {'scs_net', 'resnet'}  # counted above and below


def test_the_twin_has_the_same_shapes_and_its_own_count():
  config = load_config('gallery', 'cifar10_15_9')
  # 32-64-128, 3x3: kernels, scale and bias of BatchNorm, head on 4 x 4 x 128.
  kernels = 9 * (3 * 32 + 32 * 64 + 64 * 128)
  expected = kernels + 2 * (32 + 64 + 128) + (4 * 4 * 128 + 1) * 10
  assert count(lambda: build(config, variant='conv')) == expected
  x = jnp.ones((2, 32, 32, 3))
  ours = activations(build(config), x)
  twins = activations(build(config, variant='conv'), x)
  assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, twins)


def test_activations_end_with_the_logits_and_are_bounded():
  model = build(load_config('gallery', 'fashion_90_3423'))
  x = jax.random.uniform(jax.random.key(0), (3, 28, 28, 1))
  outputs = activations(model, x)
  np.testing.assert_allclose(outputs['head_11'], nnx.jit(model)(x), atol=1e-6)
  assert set(outputs) == set(model.names)
  assert outputs['scs_0'].shape == (3, 26, 26, 26)
  assert all(np.abs(maps).max() <= 1 for name, maps in outputs.items() if name != 'head_11')


def test_bfloat16_runs_and_keeps_p_and_q_in_float32():
  model = build(load_config('gallery', 'mnist_smoke'), dtype='bfloat16', param_dtype='bfloat16')
  assert nnx.jit(model)(jnp.ones((2, 28, 28, 1))).dtype == jnp.bfloat16
  assert model.scs_0.kernel[...].dtype == jnp.bfloat16
  assert model.scs_0.raw_p[...].dtype == model.scs_0.raw_q[...].dtype == jnp.float32


def test_batch_statistics_move_in_training_only():
  model = build(load_config('gallery', 'mnist_smoke'), variant='conv')
  x = jax.random.uniform(jax.random.key(0), (4, 28, 28, 1))
  before = model.scs_0.norm.mean[...]
  nnx.jit(lambda m: m(x))(model)
  np.testing.assert_array_equal(model.scs_0.norm.mean[...], before)
  nnx.jit(lambda m: m(x, train=True))(model)
  assert not np.array_equal(model.scs_0.norm.mean[...], before)


@pytest.mark.parametrize('rank', [1, 2, 3])
def test_stacks_in_one_to_three_dimensions(rank):
  model = models.build(
    'scs_net',
    input_shape=(8,) * rank + (2,),
    num_classes=3,
    stack=({'kind': 'scs', 'features': 4}, {'kind': 'pool'}, {'kind': 'head'}),
    rngs=nnx.Rngs(0),
  )
  assert nnx.jit(model)(jnp.ones((5, *(8,) * rank, 2))).shape == (5, 3)


@pytest.mark.parametrize(
  ('stack', 'message'),
  [
    ([{'kind': 'scs'}, {'kind': 'head'}], r'layer 0 .*scs needs features'),
    ([{'kind': 'scz', 'features': 3}, {'kind': 'head'}], r"unknown kind 'scz'; did you mean 'scs'"),
    ([{'kind': 'pool', 'windov': 3}, {'kind': 'head'}], r"'windov'; did you mean 'window'"),
    ([{'kind': 'scs', 'features': 3}], r"must end with its only 'head'"),
    ([{'kind': 'head'}, {'kind': 'head'}], r"layer 0 .*must end with its only 'head'"),
    ([{'features': 3}, {'kind': 'head'}], r'unknown kind None'),
    (
      [{'kind': 'scs', 'features': 3, 'window': 9, 'padding': 'VALID'}, {'kind': 'head'}],
      r'layer 0 .*larger than the padded input',
    ),
  ],
)
def test_a_wrong_stack_is_told_which_layer(stack, message):
  with pytest.raises(ValueError, match=message):
    models.build('scs_net', input_shape=(8, 8, 1), num_classes=2, stack=stack, rngs=nnx.Rngs(0))


def test_unknown_names_are_told_the_nearest():
  with pytest.raises(ValueError, match="unknown model 'scsnet'; did you mean 'scs_net'"):
    models.build('scsnet')
  with pytest.raises(ValueError, match="'p_int'; did you mean 'p_init'"):
    models.build('scs_net', p_int=2.0)
  shared = [{'kind': 'depthwise', 'share_kernels': True}, {'kind': 'head'}]
  with pytest.raises(ValueError, match='share_kernels has no convolutional twin'):
    models.build(
      'scs_net',
      input_shape=(8, 8, 2),
      num_classes=2,
      stack=shared,
      variant='conv',
      rngs=nnx.Rngs(0),
    )


# ResNet-18 at 32 pixels, counted by hand. Weights of the convolutions: stem 3*3*3*64 = 1,728; stages
# 4 * 9*64*64 = 147,456; (9*64 + 3 * 9*128) * 128 = 516,096 and shortcut 64*128 = 8,192; four times
# those of the stage before: 2,064,384 and 32,768; 8,257,536 and 131,072. Together 11,159,232. Kernels:
# 64 + 4*64 + 5*128 + 5*256 + 5*512 = 4,800, in 20 layers. Head: 512 * 10 + 10 = 5,130.
RESNET_18 = {'scs': 11_159_232 + 4_800 + 20 + 5_130, 'conv': 11_159_232 + 2 * 4_800 + 5_130}


@pytest.mark.parametrize('variant', RESNET_18)
def test_resnet_18_has_its_size_and_shapes(variant):
  make = lambda: models.build(
    'resnet', input_shape=(32, 32, 3), num_classes=10, variant=variant, rngs=nnx.Rngs(0)
  )
  assert count(make) == RESNET_18[variant]
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  assert nnx.eval_shape(lambda x: make()(x), images).shape == (2, 10)


@pytest.mark.parametrize('variant', RESNET_18)
def test_a_small_resnet_learns_from_every_parameter(variant):
  sizes = {'input_shape': (8, 8, 3), 'num_classes': 4, 'widths': (4, 8), 'blocks': (1, 2)}
  model = models.build('resnet', **sizes, variant=variant, rngs=nnx.Rngs(0))
  graph, *states = nnx.split(model, nnx.Param, ...)
  params, rest = map(nnx.to_pure_dict, states)
  x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
  loss = lambda params: jnp.square(nnx.merge(graph, params, rest)(x, train=True)).sum()
  for path, gradient in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params)):
    assert jnp.abs(gradient).max() > 0, path


def test_a_resnet_needs_a_width_for_every_stage():
  with pytest.raises(ValueError, match='one entry for each stage'):
    models.build(
      'resnet', input_shape=(8, 8, 3), num_classes=4, widths=(4,), blocks=(1, 2), rngs=nnx.Rngs(0)
    )
