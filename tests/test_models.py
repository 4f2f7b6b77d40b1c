"""Golden parameter counts, twins, first weights, and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from config_files import load_config, load_module
from flax import nnx

import scs_jax
from scs_jax import models
from scs_jax.models.autoencoder import depth_to_space

pytestmark = pytest.mark.usefixtures('quick_compilation')

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


def activations(model, x):
  """All outputs of the model by name, compiled as one."""
  model.eval()
  graph, state = nnx.split(model)
  return jax.jit(lambda state, x: dict(nnx.merge(graph, state).activations(x)))(state, x)


def count(build_model):
  params = nnx.state(nnx.eval_shape(build_model), nnx.Param)
  return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize('name', GALLERY)
def test_the_gallery_has_the_published_sizes(name):
  config = load_config('gallery', name)
  assert count(lambda: build(config)) == GALLERY[name]


def test_every_network_of_the_gallery_has_a_golden_count():
  assert set(GALLERY) == set(load_module('gallery').NETWORKS)


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
  model.eval()
  nnx.jit(lambda m: m(x))(model)
  np.testing.assert_array_equal(model.scs_0.norm.mean[...], before)
  model.train()
  nnx.jit(lambda m: m(x))(model)
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
    (
      [
        {'kind': 'scs', 'features': 3},
        {'kind': 'abs'},
        {'kind': 'again', 'layer': 1},
        {'kind': 'head'},
      ],
      r'layer 2 .*number of an SCS layer before it \(0\), got 1',
    ),
    (
      [{'kind': 'scs', 'features': 3}, {'kind': 'again', 'layer': 0}, {'kind': 'head'}],
      r'layer 1 .*takes 1 channels and would be given 3',
    ),
  ],
)
def test_a_wrong_stack_is_told_which_layer(stack, message):
  with pytest.raises(ValueError, match=message):
    models.build('scs_net', input_shape=(8, 8, 1), num_classes=2, stack=stack, rngs=nnx.Rngs(0))


def test_without_abs_the_opposite_image_gives_the_opposite():
  """A stack is an odd function, but for the bias of its head; `abs` makes it even."""
  layers = ({'kind': 'scs', 'features': 4}, {'kind': 'pool'}, {'kind': 'pointwise', 'features': 3})
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 1))
  for stack, sign in ((layers, -1), ((layers[0], {'kind': 'abs'}, *layers[1:]), 1)):
    model = models.build(
      'scs_net',
      input_shape=(6, 6, 1),
      num_classes=5,
      stack=(*stack, {'kind': 'head'}),
      rngs=nnx.Rngs(0),
    )
    assert np.ptp(model(x)) > 1e-4
    np.testing.assert_allclose(model(-x), sign * model(x), atol=1e-7)


@pytest.mark.parametrize('variant', ['scs', 'conv'])
def test_a_layer_used_again_has_one_set_of_parameters(variant):
  once = ({'kind': 'scs', 'features': 4}, {'kind': 'pointwise', 'features': 4}, {'kind': 'head'})
  again = (*once[:2], {'kind': 'again', 'layer': 1}, *once[2:])
  built = [
    models.build(
      'scs_net',
      input_shape=(6, 6, 1),
      num_classes=5,
      stack=stack,
      variant=variant,
      rngs=nnx.Rngs(0),
    )
    for stack in (once, again)
  ]
  sizes = [
    sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) for model in built
  ]
  assert sizes[0] == sizes[1]
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 1))
  model, expected = built[1], x
  model.eval()
  for layer in (model.scs_0, model.pointwise_1, model.pointwise_1):
    expected = layer(expected)
  expected = model.head_3(expected.reshape(2, -1))
  np.testing.assert_allclose(model(x), expected, atol=1e-6)


def test_a_layer_may_begin_elsewhere():
  stack = (
    {'kind': 'scs', 'features': 4, 'q_init': 3.0},
    {'kind': 'depthwise', 'p_init': 0.8},
    {'kind': 'pointwise', 'features': 4},
    {'kind': 'head'},
  )
  build = lambda **sizes: models.build(
    'scs_net', input_shape=(6, 6, 1), num_classes=5, q_init=0.1, rngs=nnx.Rngs(0), **sizes
  )
  model = build(stack=stack)
  for layer, p, q in (
    (model.scs_0, 2, 3),
    (model.depthwise_1, 0.8, 0.1),
    (model.pointwise_2, 2, 0.1),
  ):
    np.testing.assert_allclose(layer.p, p, rtol=1e-5)
    np.testing.assert_allclose(layer.q, q, rtol=1e-5)
  with pytest.raises(ValueError, match=r'layer 1 .*p_init'):
    build(stack=(stack[0], {'kind': 'depthwise', 'p_init': -1.0}, *stack[2:]))


OPTIONS_BY_LAYER = {
  'p_mode': ('fixed', 'shared', 'per_kernel'),
  'q_mode': ('shared', 'per_kernel'),  # The last counts for all that follow.
  'q_init': (0.0, 0.1, 0.2),
  'p_init': (1.0, 3.0),
  'center': (True, False),
}


def test_options_may_differ_by_layer():
  stack = (
    {'kind': 'scs', 'features': 4},
    {'kind': 'pool'},
    {'kind': 'depthwise'},
    {'kind': 'pointwise', 'features': 3},
    {'kind': 'pointwise', 'features': 4, 'p_mode': 'fixed', 'p_init': 5.0, 'center': True},
    {'kind': 'head'},
  )
  build = lambda variant='scs', **changes: models.build(
    'scs_net',
    input_shape=(6, 6, 1),
    num_classes=5,
    stack=stack,
    variant=variant,
    rngs=nnx.Rngs(0),
    **OPTIONS_BY_LAYER | changes,
  )
  model = build()
  layers = [model.scs_0, model.depthwise_2, model.pointwise_3, model.pointwise_4]
  learned = [
    {name: getattr(layer, name)[...].shape for name in ('raw_p', 'raw_q') if hasattr(layer, name)}
    for layer in layers
  ]
  assert learned == [
    {},  # q_init 0 fixes q, whatever q_mode says.
    {'raw_p': (), 'raw_q': (4,)},
    {'raw_p': (3,), 'raw_q': (3,)},
    {'raw_q': (4,)},
  ]
  assert [float(jnp.max(layer.p)) for layer in layers] == pytest.approx([1, 3, 3, 5])
  assert [float(jnp.max(layer.q)) for layer in layers] == pytest.approx([0, 0.1, 0.2, 0.2])
  assert [layer.center for layer in layers] == [True, False, False, True]
  again = models.build(**models.recipe_of(model), rngs=nnx.Rngs(0))
  shapes = lambda model: jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
  assert shapes(again) == shapes(model)
  build('conv')
  for variant in ('scs', 'conv'):
    with pytest.raises(ValueError, match=r'q_init .* has 5 values, for 4 layers'):
      build(variant, q_init=(0.1,) * 5)
  with pytest.raises(ValueError, match=r'center must be a value, or a tuple of at least one'):
    build(center=())
  with pytest.raises(ValueError, match=r"layer 2 .*unknown q_mode 'share'"):
    build(q_mode=('shared', 'share'))


@pytest.mark.parametrize('name', sorted(set(models.MODELS) - {'scs_net'}))
def test_the_first_layer_of_every_network_may_be_its_own(name):
  sizes = {'input_shape': (32, 32, 3), 'num_classes': 5}
  small = {
    'convmixer': {'depth': 1},
    'densenet': {'layers': (1, 1)},
    'resnet': {'blocks': (1,), 'widths': (4,)},
  }
  build = lambda **changes: nnx.eval_shape(
    lambda: models.build(name, **sizes, **small.get(name, {}), rngs=nnx.Rngs(0), **changes)
  )
  plain, own = build(), build(q_init=(0.0, 0.1), center=(True, False))
  kind = type(own.first_layer)
  layers = [module for _, module in nnx.iter_modules(own) if isinstance(module, kind)]
  assert [layer.center for layer in layers if layer is not own.first_layer] == [False] * (
    len(layers) - 1
  )
  assert own.first_layer.center
  assert own.first_layer.q == 0
  count = lambda model: len(jax.tree.leaves(nnx.state(model, nnx.Param)))
  assert count(plain) - count(own) == 1  # its q


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


# Counted by hand: weights, then an exponent for each kernel and a q for each SCS layer, or scale
# and bias of BatchNorm for each kernel of the twin.
def scs(fan_in, kernels):
  return (fan_in + 1) * kernels + 1


def block(fan_in, kernels):
  return (fan_in + 2) * kernels


def of_resnet(layer, widths, blocks, positions):
  stages = [layer(27, widths[0]), 2 * blocks[0] * layer(9 * widths[0], widths[0])]
  for before, width, count in zip(widths, widths[1:], blocks[1:], strict=False):
    rest = (2 * count - 1) * layer(9 * width, width)
    stages.append(layer(9 * before, width) + rest + layer(before, width))
  return sum(stages) + 10 * positions * widths[-1] + 10


def of_hukkelas(layer, residual):
  levels = [
    layer(9 * c, 2 * c) + layer(18 * c, 2 * c) + residual * layer(c, 2 * c) for c in (32, 64, 128)
  ]
  return layer(147, 32) + sum(levels) + 10 * 256 * 16 + 10


def of_convmixer(layer):
  return layer(12, 256) + 8 * (layer(25, 256) + layer(256, 256)) + 10 * 256 + 10


def of_densenet(layer):
  total, features = layer(27, 24), 24
  for i in range(3):
    if i:
      total, features = total + layer(features, features // 2), features // 2
    for _ in range(16):
      total, features = total + layer(features, 48) + layer(9 * 48, 12), features + 12
  return total + 10 * features + 10


def of_cct(layer):
  tokens = layer(27, 64) + layer(9 * 64, 128) + 64 * 128
  linear, norm = 128 * 128 + 128, 2 * 128
  if layer is scs:  # query, key, value, output, two of the second half; an exponent for each head
    levels = 2 * (6 * scs(128, 128) + 2)
  else:
    levels = 2 * (6 * linear + 2 * norm) + norm
  return tokens + levels + 128 + 1 + 10 * 128 + 10


def of_autoencoder(layer):
  encoder = layer(27, 32) + layer(9 * 32, 64) + layer(9 * 64, 16)
  return encoder + layer(9 * 16, 4 * 64) + layer(9 * 64, 4 * 32) + 9 * 32 * 3 + 3


ZOO = {
  'hukkelas': (lambda layer: of_hukkelas(layer, False), 1_207_825),
  'hukkelas_residual': (lambda layer: of_hukkelas(layer, True), 1_251_284),
  'resnet20': (lambda layer: of_resnet(layer, (16, 32, 64), (3, 3, 3), 16), 281_311),
  'resnet56': (lambda layer: of_resnet(layer, (16, 32, 64), (9, 9, 9), 16), 863_299),
  'resnet18': (lambda layer: of_resnet(layer, (64, 128, 256, 512), (2, 2, 2, 2), 4), 11_184_542),
  'convmixer256_8': (of_convmixer, 585_499),
  'densenet100': (of_densenet, 748_435),
  'cct2': (of_cct, 283_421),
  'autoencoder': (of_autoencoder, 140_472),
}


@pytest.mark.parametrize('variant', ['scs', 'conv'])
@pytest.mark.parametrize('name', ZOO)
def test_the_zoo_has_its_sizes_and_shapes(name, variant):
  config = load_config('cifar10', f'{name},variant={variant}')
  by_hand, golden = ZOO[name]
  assert by_hand(scs) == golden
  images = jnp.zeros((2, 32, 32, 3))

  def built():  # and called in the same trace
    model = build(config)
    return nnx.state(model, nnx.Param), model(images)

  params, y = jax.eval_shape(built)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == by_hand(
    scs if variant == 'scs' else block
  )
  assert y.shape == ((2, 32, 32, 3) if name == 'autoencoder' else (2, 10))


def test_every_model_has_a_golden_count():
  assert set(ZOO) | {'three_layers'} == set(load_module('cifar10').NETWORKS)
  named = {load_config('cifar10', name).model.name for name in ZOO}
  assert named | {'scs_net'} == set(models.MODELS)


def test_resnet_50_has_its_size():
  make = lambda: models.build(
    'resnet',
    input_shape=(224, 224, 3),
    num_classes=1000,
    block='bottleneck',
    blocks=(3, 4, 6, 3),
    large_stem=True,
    variant='conv',
    rngs=nnx.Rngs(0),
  )
  assert count(make) == 25_557_032  # as in torchvision


SMALL = {
  'autoencoder': {'widths': (4, 6), 'code': 3},
  'cct': {'width': 8, 'depth': 1, 'heads': 2, 'tokeniser': (4,)},
  'convmixer': {'width': 6, 'depth': 1, 'window': 3},
  'densenet': {'layers': (1, 1), 'growth': 3},
  'hukkelas': {'width': 3, 'levels': 1, 'residual': True},
  'resnet': {'widths': (4, 8), 'blocks': (1, 1)},
}


def small(name, variant='scs', **more):
  sizes = {'input_shape': (8, 8, 3), 'num_classes': 4, **SMALL.get(name, {}), **more}
  return models.build(name, **sizes, variant=variant, rngs=nnx.Rngs(0))


def loss_of_params(model, x):
  graph, *states = nnx.split(model, nnx.Param, ...)
  params, rest = map(nnx.to_pure_dict, states)

  def loss(params):
    y = nnx.merge(graph, params, rest)(x)
    return jnp.square(y - jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum()

  return loss, params


@pytest.mark.parametrize(('variant', 'dtype'), [('scs', 'bfloat16'), ('conv', 'float32')])
@pytest.mark.parametrize('name', SMALL)
def test_every_parameter_learns(name, variant, dtype):
  images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
  loss, params = loss_of_params(small(name, variant, dtype=dtype), images)
  for path, gradient in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params)):
    assert np.isfinite(gradient).all(), path
    if path[-1].key == 'bias' and path[-2].key in ('key', 'weight'):
      continue  # a softmax does not see what is added to all of its arguments
    assert jnp.abs(gradient).max() > 0, path


STACK = ({'kind': 'scs', 'features': 3}, {'kind': 'pool'}, {'kind': 'head'})


def test_the_test_of_features_has_every_model():
  assert {*SMALL, 'scs_net'} == set(models.MODELS)


@pytest.mark.parametrize('variant', ['scs', 'conv'])
@pytest.mark.parametrize('name', [*SMALL, 'scs_net'])
def test_features_are_what_the_head_sees(quick_compilation, name, variant):
  model = small(name, variant, **({'stack': STACK} if name == 'scs_net' else {}))
  model.eval()
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  after = model.encode if name == 'autoencoder' else model
  features, found = jax.jit(lambda x: (model.features(x), after(x)))(images)
  assert features.ndim == 2
  if name == 'autoencoder':
    np.testing.assert_array_equal(features, found.reshape(2, -1))
    return
  head = model.head_2 if name == 'scs_net' else model.head
  assert features.shape[1] == head.in_features
  wanted = np.asarray(features) @ np.asarray(head.kernel[...]) + np.asarray(head.bias[...])
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', SMALL)
def test_every_model_lowers_for_tpu(name):
  loss, params = loss_of_params(small(name), jnp.ones((2, 8, 8, 3)))
  exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=['tpu'])(params)
  assert exported.platforms == ('tpu',)


@pytest.mark.parametrize('variant', ['scs', 'conv'])
@pytest.mark.parametrize('size', [9, 13, 16])
def test_a_resnet_with_pools_and_a_flat_head_takes_every_size(size, variant):
  sizes = {'input_shape': (size, size, 3), 'downsample': 'pool', 'head': 'flat'}
  for large_stem in (False, True):
    build = functools.partial(small, 'resnet', variant, large_stem=large_stem, **sizes)
    model = nnx.eval_shape(build)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    assert nnx.eval_shape(lambda model, x: model(x), model, images).shape == (2, 4)


@pytest.mark.parametrize(
  ('name', 'sizes', 'message'),
  [
    ('resnet', {'widths': (4,)}, 'one entry for each stage'),
    ('resnet', {'block': 'basik'}, "'basik'; did you mean 'basic'"),
    ('resnet', {'downsample': 'strides'}, "'strides'; did you mean 'stride'"),
    ('resnet', {'head': 'flatt'}, "'flatt'; did you mean 'flat'"),
    ('cct', {'heads': 3}, 'heads 3 must divide width 8'),
    ('autoencoder', {'widths': (4,) * 4}, 'must divide by 16'),
    ('convmixer', {'variant': 'cnv'}, "'cnv'; did you mean 'conv'"),
    ('densenet', {'output': 'units'}, "'units'; did you mean 'unit'"),
  ],
)
def test_a_wrong_size_is_told(name, sizes, message):
  with pytest.raises(ValueError, match=message):
    small(name, **sizes)


def test_tokens_that_do_not_attend_see_themselves_alone():
  model = small('cct', attend=False)
  x = jax.random.normal(jax.random.key(0), (1, 4, 8))
  changed = x.at[0, 2].add(1.0)
  moved = jnp.abs(model.levels[0](changed) - model.levels[0](x)).max(-1)[0] > 0
  assert moved.tolist() == [False, False, True, False]
  attending = small('cct')
  assert (jnp.abs(attending.levels[0](changed) - attending.levels[0](x)).max(-1) > 0).all()


@pytest.mark.parametrize('rank', [1, 2, 3])
def test_depth_to_space_fills_blocks(rank):
  features, factor = 3, 2
  x = jnp.arange(2**rank * factor**rank * features).reshape(1, *(2,) * rank, -1)
  y = depth_to_space(x, factor)
  assert y.shape == (1, *(4,) * rank, features)
  for position in np.ndindex(*y.shape[1:-1]):
    outside, inside = zip(*(divmod(i, factor) for i in position), strict=True)
    channel = np.ravel_multi_index(inside, (factor,) * rank) * features
    np.testing.assert_array_equal(
      y[(0, *position)], x[(0, *outside, slice(channel, channel + features))]
    )


def test_unit_outputs_keep_their_size_through_fifty_layers():
  layer = lambda key: scs_jax.nnx.SharpenedCosineSimilarity(
    8, 8, (3, 3), p_init=1.25, output='unit', rngs=nnx.Rngs(key)
  )
  graph, states = nnx.split(nnx.vmap(layer)(jax.random.split(jax.random.key(1), 50)))

  @jax.jit
  def deep(x):
    return jax.lax.scan(lambda x, state: (nnx.merge(graph, state)(x), None), x, states)[0]

  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))
  y, pull = jax.vjp(deep, x)
  (gradient,) = pull(jnp.ones_like(y))
  assert 0.1 < y.std() / x.std() < 10
  assert 0.05 < gradient.std() < 50


@pytest.mark.parametrize('variant', ['scs', 'conv'])
@pytest.mark.parametrize('name', SMALL)
def test_two_networks_of_one_kind_compare_equal_as_graphs(name, variant):
  """So that a jitted function of the structure is traced once."""
  one, other = (nnx.graphdef(small(name, variant)) for _ in range(2))
  assert one == other
  assert hash(one) == hash(other)


def kernels_of(model):
  leaves = jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
  return [np.asarray(leaf) for path, leaf in leaves if path[-1].key == 'kernel']


@pytest.mark.parametrize('name', SMALL)
def test_the_twin_starts_with_the_same_kernels(name):
  if name == 'cct':
    return  # attention of the twin has dense layers, whose kernels have another shape
  ours, twins = kernels_of(small(name)), kernels_of(small(name, 'conv'))
  assert len(ours) == len(twins)
  for a, b in zip(ours, twins, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('changes', [{'p_mode': 'fixed'}, {'q_mode': 'fixed'}, {'scale_init': 2.0}])
@pytest.mark.parametrize('name', SMALL)
def test_how_p_and_q_are_learned_leaves_the_first_kernels(name, changes):
  for a, b in zip(kernels_of(small(name)), kernels_of(small(name, **changes)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_twin_of_a_transformer_starts_with_the_same_head():
  heads = [small('cct', variant).head.kernel[...] for variant in ('scs', 'conv')]
  np.testing.assert_array_equal(*heads)


OWN = """
from flax import nnx

class MyNet(nnx.Module):
  def __init__(self, input_shape, num_classes, *, width=8, rate=0.5, rngs):
    self.first = nnx.Linear(input_shape[-1], width, rngs=rngs)
    self.dropout = nnx.Dropout(rate, rngs=rngs)
    self.norm = nnx.BatchNorm(width, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, x):
    return self.head(self.norm(self.dropout(self.first(x))).mean((1, 2)))

class Lacking(nnx.Module):
  def __init__(self, input_shape, *, rngs):
    pass

number = 3
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
  (tmp_path / 'my_module_of_models.py').write_text(OWN)
  monkeypatch.syspath_prepend(tmp_path)
  return 'my_module_of_models'


def test_a_module_of_ones_own_is_built_by_name(own_module):
  sizes = {'input_shape': (8, 8, 3), 'num_classes': 4, 'rngs': nnx.Rngs(0)}
  model = models.build(f'{own_module}:MyNet', **sizes, width=6)
  assert model(jnp.ones((2, 8, 8, 3))).shape == (2, 4)
  assert models.arguments_of(f'{own_module}:MyNet') == {'width': 8, 'rate': 0.5}


@pytest.mark.parametrize(
  ('name', 'arguments', 'message'),
  [
    ('no_such_module:MyNet', {}, "Python finds no module 'no_such_module'"),
    ('my_module_of_models:MyNett', {}, "'MyNett'; did you mean 'MyNet'"),
    ('my_module_of_models:number', {}, 'must name an nnx.Module, got 3'),
    ('my_module_of_models:Lacking', {}, 'it lacks num_classes'),
    ('my_module_of_models:MyNet', {'widht': 3}, "'widht'; did you mean 'width'"),
  ],
)
def test_a_wrong_module_of_ones_own_is_refused(own_module, name, arguments, message):
  with pytest.raises(ValueError, match=message):
    models.build(name, **arguments)
