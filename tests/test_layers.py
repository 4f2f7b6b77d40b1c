"""The NNX and Linen layers: they agree with each other and with the op."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from flax.errors import ScopeParamShapeError

from scs_jax import abs_max_pool, linen, nnx, sharpened_cosine_similarity
from scs_jax.layers import parameters

pytestmark = pytest.mark.usefixtures('strict_promotion', 'quick_compilation')
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 4)), jnp.float32)


def between_1_and_3(key, shape, dtype):
  return jax.random.uniform(key, shape, dtype, 1, 3)


# Options of the layer, and the number of values it then learns. Dense kernels have 3·3·4·8 = 288.
OPTIONS = {
  'default': ({}, 288 + 8 + 1),
  'p_shared': ({'p_mode': 'shared'}, 288 + 1 + 1),
  'q_per_kernel': ({'q_mode': 'per_kernel'}, 288 + 8 + 8),
  'p_fixed': ({'p_mode': 'fixed', 'p_init': 1.5}, 288 + 1),
  'p_fixed_integer': ({'p_mode': 'fixed', 'p_init': 3}, 288 + 1),
  'all_fixed': ({'p_mode': 'fixed', 'q_mode': 'fixed', 'q_init': 0}, 288),
  'p_random': ({'p_init': between_1_and_3}, 288 + 8 + 1),
  'q_random': ({'q_init': between_1_and_3, 'q_mode': 'per_kernel'}, 288 + 8 + 8),
  'p_array': ({'p_init': np.linspace(1, 3, 8)}, 288 + 8 + 1),
  'q_array_fixed': ({'q_mode': 'fixed', 'q_init': jnp.linspace(0, 1, 8)}, 288 + 8),
  'kernel_q': ({'kernel_q': 0.0}, 288 + 8 + 1),
  'center': ({'center': True}, 288 + 8 + 1),
  'scale': ({'scale_init': 3.0}, 288 + 8 + 1 + 1),
  'groups': ({'feature_group_count': 2}, 144 + 8 + 1),
  'depthwise': ({'feature_group_count': 4}, 72 + 8 + 1),
  'kernels_shared': ({'feature_group_count': 2, 'share_kernels': True}, 72 + 4 + 1),
  'kernels_shared_q': (
    {'feature_group_count': 4, 'share_kernels': True, 'q_mode': 'per_kernel', 'p_mode': 'shared'},
    18 + 1 + 2,
  ),
  'window': ({'strides': (2, 1), 'kernel_dilation': 2, 'padding': ((2, 1), (3, 0))}, 288 + 8 + 1),
  'bfloat16': ({'dtype': jnp.bfloat16, 'scale_init': 2.0}, 288 + 8 + 1 + 1),
  'bfloat16_parameters': ({'param_dtype': jnp.bfloat16, 'scale_init': 2.0}, 288 + 8 + 1 + 1),
  'patches': ({'method': 'patches', 'precision': 'highest'}, 288 + 8 + 1),
}


def layers(out=8, **options):
  """Returns the NNX layer, the Linen layer, and the parameters of the first for the second."""
  ours = nnx.SharpenedCosineSimilarity(4, out, (3, 3), rngs=flax_nnx.Rngs(0), **options)
  return ours, linen.SharpenedCosineSimilarity(out, (3, 3), **options), pure(ours)


def pure(module):
  return {'params': flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.Param))}


def apply(graph, state, x):
  return flax_nnx.merge(graph, state)(x)


def shapes(tree):
  return jax.tree.map(lambda v: (v.shape, v.dtype), tree)


@pytest.mark.parametrize('name', OPTIONS)
def test_nnx_and_linen_agree(name):
  options, count = OPTIONS[name]
  ours, theirs, variables = layers(**options)
  assert sum(v.size for v in jax.tree.leaves(variables)) == count
  initial = jax.eval_shape(theirs.init, jax.random.key(0), IMAGES)
  assert shapes(initial) == shapes(variables)
  graph, state = flax_nnx.split(ours)
  y, other, wanted = jax.jit(
    lambda s, v, x: (apply(graph, s, x), theirs.apply(v, x), by_the_op(flax_nnx.merge(graph, s), x))
  )(state, variables, IMAGES)
  np.testing.assert_array_equal(y, other)
  low = options.get('dtype') is not None
  assert y.dtype == (jnp.bfloat16 if low else jnp.float32)
  np.testing.assert_allclose(
    y.astype('float32'), wanted.astype('float32'), atol=2e-2 if low else 1e-5
  )


def by_the_op(layer, x):
  """Returns the expected output of the layer."""
  groups, dtype = layer.feature_group_count, layer.dtype or jnp.float32
  kernel, p, q = layer.kernel[...].astype(dtype), layer.p, layer.q
  if layer.share_kernels:
    kernel = jnp.concatenate([kernel] * groups, -1)
    p, q = (jnp.concatenate([v] * groups) if np.ndim(v) else v for v in (p, q))
  y = sharpened_cosine_similarity(
    x.astype(dtype),
    kernel,
    p,
    q,
    kernel_q=layer.kernel_q,
    center=layer.center,
    strides=layer.strides,
    padding=layer.padding,
    kernel_dilation=layer.kernel_dilation,
    feature_group_count=groups,
  )
  return y if layer.scale_init is None else y * layer.scale_init


@pytest.mark.parametrize('batch', [(), (3,), (2, 3), (0,)])
def test_any_number_of_batch_dimensions(batch):
  ours, theirs, variables = layers(feature_group_count=2)
  x = jnp.asarray(np.random.default_rng(1).normal(size=(*batch, 6, 5, 4)), jnp.float32)
  graph, state = flax_nnx.split(ours)
  y, other = jax.jit(lambda s, v: (apply(graph, s, x), theirs.apply(v, x)))(state, variables)
  assert y.shape == (*batch, 6, 5, 8)
  np.testing.assert_array_equal(y, other)
  if batch:
    flat = jax.jit(lambda x: ours(x))(x.reshape(-1, 6, 5, 4))
    np.testing.assert_allclose(y.reshape(-1, 6, 5, 8), flat, atol=1e-6)


@pytest.mark.parametrize('rank', [1, 3])
def test_other_ranks(rank):
  size = 3 if rank == 1 else (2,) * rank
  ours = nnx.SharpenedCosineSimilarity(4, 8, size, rngs=flax_nnx.Rngs(0))
  theirs = linen.SharpenedCosineSimilarity(8, size)
  x = jnp.ones((2, *[4] * rank, 4))
  graph, state = flax_nnx.split(ours)
  y, other = jax.jit(lambda s, v: (apply(graph, s, x), theirs.apply(v, x)))(state, pure(ours))
  assert y.shape == (2, *[4] * rank, 8)
  np.testing.assert_array_equal(y, other)


def test_arguments_have_the_same_names_and_defaults():
  def options(f):
    parameters = inspect.signature(f).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

  ours = options(nnx.SharpenedCosineSimilarity.__init__)
  theirs = options(linen.SharpenedCosineSimilarity)
  theirs = {name: theirs[name] for name in theirs if name not in ('parent', 'name')}
  assert ours.keys() == theirs.keys()
  same = [name for name in ours if name != 'kernel_init']
  assert [ours[name] for name in same] == [theirs[name] for name in same]


def test_pool():
  arguments = ((3, 2), (2, 1), 'SAME')
  wanted = abs_max_pool(IMAGES, *arguments)
  np.testing.assert_array_equal(nnx.AbsMaxPool(*arguments)(IMAGES), wanted)
  np.testing.assert_array_equal(linen.AbsMaxPool(*arguments).apply({}, IMAGES), wanted)
  assert nnx.AbsMaxPool((2, 2))(IMAGES).shape == (2, 5, 4, 4)  # strides=None means 1
  assert linen.AbsMaxPool((2, 2)).apply({}, IMAGES).shape == (2, 5, 4, 4)


class SmallNnx(flax_nnx.Module):
  def __init__(self, rngs):
    layer = nnx.SharpenedCosineSimilarity
    self.first = layer(4, 6, (3, 3), p_init=between_1_and_3, rngs=rngs)
    self.pool = nnx.AbsMaxPool((2, 2), 2)
    self.depthwise = layer(6, 6, (3, 3), feature_group_count=6, share_kernels=True, rngs=rngs)
    self.pointwise = layer(6, 10, (1, 1), q_mode='per_kernel', scale_init=5.0, rngs=rngs)

  def __call__(self, x):
    return self.pointwise(self.depthwise(self.pool(self.first(x)))).mean((1, 2))


class SmallLinen(flax_linen.Module):
  def setup(self):
    layer = linen.SharpenedCosineSimilarity
    self.first = layer(6, (3, 3), p_init=between_1_and_3)
    self.pool = linen.AbsMaxPool((2, 2), 2)
    self.depthwise = layer(6, (3, 3), feature_group_count=6, share_kernels=True)
    self.pointwise = layer(10, (1, 1), q_mode='per_kernel', scale_init=5.0)

  def __call__(self, x):
    return self.pointwise(self.depthwise(self.pool(self.first(x)))).mean((1, 2))


def test_small_network_from_either_library():
  ours, theirs = SmallNnx(flax_nnx.Rngs(1)), SmallLinen()
  variables = pure(ours)
  assert shapes(jax.eval_shape(theirs.init, jax.random.key(0), IMAGES)) == shapes(variables)
  graph, state = flax_nnx.split(ours)

  mine = lambda s: apply(graph, s, IMAGES)
  by_linen = lambda v: theirs.apply(v, IMAGES)
  of = lambda f: jax.jit(lambda v: (f(v), jax.grad(lambda v: (f(v) ** 2).sum())(v)))
  (y, gradient), (other, other_gradient) = of(mine)(state), of(by_linen)(variables)
  np.testing.assert_array_equal(y, other)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    flax_nnx.to_pure_dict(gradient),
    other_gradient['params'],
  )
  # The other direction: parameters drawn by Linen give the same output in NNX.
  drawn = jax.jit(theirs.init)(jax.random.key(5), IMAGES)
  flax_nnx.replace_by_pure_dict(state, drawn['params'])
  np.testing.assert_array_equal(jax.jit(mine)(state), jax.jit(by_linen)(drawn))


# Parametrisation of p and q.


def test_raw_and_positive_are_inverse():
  values = jnp.geomspace(1e-6, 50, 200)
  np.testing.assert_allclose(parameters.positive(parameters.raw(values)), values, rtol=1e-5)
  with jax.enable_x64(True):
    values = jnp.geomspace(1e-6, 50, 200, dtype='float64')
    np.testing.assert_allclose(parameters.positive(parameters.raw(values)), values, rtol=1e-12)


def test_p_and_q_stay_positive_and_finite():
  layer, theirs, _ = layers()
  for value in (-30.0, -90.0, -200.0, -1e30, 1e4):
    for raw in (layer.raw_p, layer.raw_q):
      raw[...] = jnp.full(raw.shape, value)
    assert (layer.p > 0).all(), value
    assert (layer.q > 0).all(), value
    y = layer(IMAGES)  # Without tracing, the op checks p and q.
    assert jnp.isfinite(y).all()
    np.testing.assert_allclose(theirs.apply(pure(layer), IMAGES), y, atol=1e-6)
  gradient = jax.grad(lambda v: parameters.positive(v).sum())(jnp.array([-80.0, -20.0, 0.0, 20.0]))
  assert (gradient > 0).all()


@pytest.mark.parametrize('param_dtype', [jnp.float32, jnp.bfloat16])
def test_initial_values(param_dtype):
  layer, _, variables = layers(p_init=1.3, q_init=0.01, scale_init=4, param_dtype=param_dtype)
  np.testing.assert_allclose(layer.p, 1.3, rtol=1e-6)
  np.testing.assert_allclose(layer.q, 0.01, rtol=1e-5)
  found = {name: (v.shape, v.dtype) for name, v in variables['params'].items()}
  assert found == {
    'kernel': ((3, 3, 4, 8), param_dtype),
    'raw_p': ((8,), 'float32'),
    'raw_q': ((), 'float32'),
    'scale': ((), 'float32'),
  }
  random, _, _ = layers(p_init=between_1_and_3, q_init=between_1_and_3, param_dtype=param_dtype)
  assert ((random.p >= 1) & (random.p <= 3)).all()
  assert jnp.unique(random.p).size == 8
  assert random.q.dtype == 'float32'


def test_float64_parameters():
  with jax.enable_x64(True):
    layer, theirs, variables = layers(param_dtype=jnp.float64, scale_init=1.0)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {np.dtype('float64')}
    x = IMAGES.astype('float64')
    y, other = jax.jit(lambda v, x: (layer(x), theirs.apply(v, x)))(variables, x)
    assert y.dtype == other.dtype == 'float64'


# Transformations.


@pytest.mark.parametrize('dtype', [None, jnp.bfloat16])
def test_gradient_reaches_every_parameter(dtype):
  ours, theirs, variables = layers(scale_init=2.0, q_mode='per_kernel', dtype=dtype)
  graph, state = flax_nnx.split(ours)
  loss = lambda y: (y.astype(jnp.float32) ** 2).sum()
  gradient = jax.jit(jax.grad(lambda s: loss(apply(graph, s, IMAGES))))(state)
  gradient = flax_nnx.to_pure_dict(gradient)
  assert gradient.keys() == {'kernel', 'raw_p', 'raw_q', 'scale'}
  for name, value in gradient.items():
    assert jnp.isfinite(value).all(), name
    assert (value != 0).all(), name
    assert value.dtype == variables['params'][name].dtype
  other = jax.jit(jax.grad(lambda v: loss(theirs.apply(v, IMAGES))))(variables)['params']
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradient, other)


def test_nnx_transformations():
  layer, _, _ = layers()
  graph, state = flax_nnx.split(layer)
  y = jax.jit(lambda s, x: apply(graph, s, x))(state, IMAGES)
  np.testing.assert_allclose(flax_nnx.jit(lambda m, x: m(x))(layer, IMAGES), y, atol=1e-6)
  np.testing.assert_allclose(jax.vmap(lambda x: apply(graph, state, x))(IMAGES), y, atol=1e-6)
  flax_nnx.jit(flax_nnx.grad(lambda m: m(IMAGES).sum()))(layer)

  make = lambda: nnx.SharpenedCosineSimilarity(4, 8, (3, 3), rngs=flax_nnx.Rngs(0))
  abstract = flax_nnx.eval_shape(make)
  assert shapes(flax_nnx.to_pure_dict(flax_nnx.state(abstract))) == shapes(
    flax_nnx.to_pure_dict(state)
  )
  assert hash(flax_nnx.graphdef(make())) == hash(flax_nnx.graphdef(abstract))


# Refused arguments.

BAD = [
  ({'feature_group_count': 3}, 'feature_group_count 3 does not divide in_features 4'),
  ({'feature_group_count': 0}, 'feature_group_count 0 does not divide in_features 4'),
  ({'feature_group_count': 4, 'out': 6}, 'feature_group_count 4 does not divide out_features 6'),
  ({'out': 0}, 'out_features must be at least 1, got 0'),
  ({'kernel_size': (0, 3)}, r'kernel_size must be at least 1 .*got \(0, 3\)'),
  ({'kernel_size': (3.0, 3)}, r'kernel_size must be .*got \(3.0, 3\)'),
  ({'p_init': 0}, 'p_init must be a positive number, got 0'),
  ({'p_init': -1.0}, 'p_init must be a positive number, got -1.0'),
  ({'p_init': float('nan')}, 'p_init must be a positive number, got nan'),
  ({'p_init': float('inf'), 'p_mode': 'fixed'}, 'p_init must be a positive number, got inf'),
  ({'p_init': 0, 'p_mode': 'fixed'}, 'p_init must be a positive number, got 0'),
  ({'q_init': -0.1}, 'q_init must be a positive number, got -0.1'),
  ({'q_init': -0.1, 'q_mode': 'fixed'}, 'q_init must be a positive number, got -0.1'),
  ({'q_init': 0}, r'q_init must be a positive number, got 0 \(use a small one'),
  ({'p_mode': 'per_kernal'}, "unknown p_mode 'per_kernal'; did you mean 'per_kernel'"),
  ({'q_mode': 'share'}, "unknown q_mode 'share'; did you mean 'shared'"),
  (
    {'p_init': between_1_and_3, 'p_mode': 'fixed'},
    "p_init must be a number when p_mode is 'fixed'",
  ),
  (
    {'q_init': between_1_and_3, 'q_mode': 'fixed'},
    "q_init must be a number when q_mode is 'fixed'",
  ),
  (
    {'p_init': np.ones(3)},
    r"p_init of shape \(3,\) does not fit p_mode='per_kernel' with 8 kernels",
  ),
  ({'q_init': np.ones(8)}, r"q_init of shape \(8,\) does not fit q_mode='shared'"),
  ({'p_init': [1.0] * 7 + [-1.0]}, 'p_init must be a positive number, got .*-1.0'),
  ({'p_init': 'two'}, "p_init must be a positive number, got 'two'"),
  ({'kernel_q': -1.0}, 'kernel_q must be at least 0 .*got -1'),
  ({'method': 'shift'}, "unknown method 'shift'; did you mean 'shifts'"),
  ({'strides': 0}, 'strides must be at least 1 .*got 0'),
  ({'padding': 'same'}, "padding must be .*got 'same'"),
  ({'x': IMAGES.astype('int32')}, 'x must be floating, got dtype int32'),
  ({'x': jnp.ones((6, 4))}, r'x must have at least 3 dimensions.*got shape \(6, 4\)'),
]


@pytest.mark.parametrize(('options', 'match'), BAD, ids=[match[:40] for _, match in BAD])
def test_refuses(options, match):
  options = {'x': IMAGES, 'out': 8, 'kernel_size': (3, 3), **options}
  x, out, size = options.pop('x'), options.pop('out'), options.pop('kernel_size')
  with pytest.raises(ValueError, match=match):
    nnx.SharpenedCosineSimilarity(4, out, size, rngs=flax_nnx.Rngs(0), **options)(x)
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(linen.SharpenedCosineSimilarity(out, size, **options).init, jax.random.key(0), x)


def test_refuses_other_features():
  layer, theirs, variables = layers()
  with pytest.raises(ValueError, match=r'kernel of shape \(3, 3, 4, 8\) takes 4 features'):
    layer(IMAGES[..., :3])
  with pytest.raises(ScopeParamShapeError, match='kernel'):
    theirs.apply(variables, IMAGES[..., :3])


def test_numbers_may_be_arrays():
  for number in (np.float64(1.5), np.float32(1.5), jnp.float32(1.5)):
    for mode in ('shared', 'fixed'):
      ours, theirs, variables = layers(p_init=number, p_mode=mode)
      y = jax.eval_shape(jax.jit(theirs.apply), variables, IMAGES)
      assert y.shape == jax.eval_shape(lambda x, m=ours: m(x), IMAGES).shape


def test_initial_values_may_be_arrays():
  values = np.linspace(0.5, 4, 8)
  for array in (values, jnp.asarray(values), list(values)):
    for mode in ('per_kernel', 'fixed'):
      ours, theirs, variables = layers(p_init=array, p_mode=mode, q_init=array, q_mode=mode)
      np.testing.assert_allclose(ours.p, values, rtol=1e-5)
      np.testing.assert_allclose(ours.q, values, rtol=1e-5)
      hash(flax_nnx.graphdef(ours))
      assert shapes(jax.eval_shape(theirs.init, jax.random.key(0), IMAGES)) == shapes(variables)


def test_sizes_may_be_of_numpy():
  three, two = np.int64(3), np.int32(2)
  options = {'strides': [two, 1], 'kernel_dilation': two, 'padding': [(two, 0), [1, 1]]}
  options |= {'feature_group_count': two}
  plain = {'strides': (2, 1), 'kernel_dilation': 2, 'padding': ((2, 0), (1, 1))}
  plain |= {'feature_group_count': 2}
  make = lambda features, size, options: nnx.SharpenedCosineSimilarity(
    features, 2 * features, size, rngs=flax_nnx.Rngs(0), **options
  )
  for size in ((three, three), np.array([3, 3]).tolist(), [three, 3]):
    ours = make(np.int64(4), size, options)
    assert flax_nnx.graphdef(ours) == flax_nnx.graphdef(make(4, (3, 3), plain))
  assert make(np.int16(4), three, {}).kernel_size == (3,)
  theirs = linen.SharpenedCosineSimilarity(np.int64(8), (three, three), **options)
  assert jax.eval_shape(theirs.init, jax.random.key(0), IMAGES)
  assert linen.SharpenedCosineSimilarity(8, three).kernel_size == 3
  pool = nnx.AbsMaxPool([two, two], two)
  assert flax_nnx.graphdef(pool) == flax_nnx.graphdef(nnx.AbsMaxPool((2, 2), 2))


def test_partitioned_initializers():
  mesh = jax.make_mesh((4,), ('fsdp',), axis_types=(jax.sharding.AxisType.Auto,))
  for library, layer in ((flax_nnx, nnx), (flax_linen, linen)):
    part, normal = library.with_partitioning, library.initializers.normal()
    options = {
      'kernel_init': part(normal, (None, None, None, 'fsdp')),
      'p_init': part(between_1_and_3, ('fsdp',)),
      'q_init': part(between_1_and_3, ('fsdp',)),
      'q_mode': 'per_kernel',
    }
    with jax.set_mesh(mesh):
      if library is flax_nnx:
        ours = layer.SharpenedCosineSimilarity(4, 8, (3, 3), rngs=flax_nnx.Rngs(0), **options)
        state, y = flax_nnx.state(ours, flax_nnx.Param), ours(IMAGES)
        specs = flax_nnx.to_pure_dict(flax_nnx.get_partition_spec(state))
        p = ours.p
      else:
        theirs = layer.SharpenedCosineSimilarity(8, (3, 3), **options)
        variables = theirs.init(jax.random.key(0), IMAGES)
        specs, y = (
          flax_linen.get_partition_spec(variables)['params'],
          theirs.apply(variables, IMAGES),
        )
        p = parameters.positive(flax_linen.unbox(variables)['params']['raw_p'])
    assert {name: spec[-1] for name, spec in specs.items()} == dict.fromkeys(
      ('kernel', 'raw_p', 'raw_q'), 'fsdp'
    )
    assert y.shape == (2, 6, 5, 8)
    assert float(p.min()) > 0.99
    assert float(p.max()) < 3.01


@pytest.mark.parametrize(
  'options',
  [
    {'p_mode': 'fixed'},
    {'p_mode': 'shared'},
    {'q_mode': 'fixed'},
    {'q_mode': 'per_kernel', 'p_init': between_1_and_3},
    {'p_mode': 'fixed', 'q_mode': 'fixed', 'q_init': 0, 'scale_init': 3.0},
  ],
)
def test_initial_weights_of_later_layers_do_not_depend_on_p_and_q(options):
  def kernels(**options):
    rngs = flax_nnx.Rngs(0)
    first = nnx.SharpenedCosineSimilarity(4, 8, (3, 3), rngs=rngs, **options)
    second = nnx.SharpenedCosineSimilarity(8, 2, (3, 3), rngs=rngs)
    return first.kernel[...], second.kernel[...], flax_nnx.Linear(2, 2, rngs=rngs).kernel[...]

  for changed, default in zip(kernels(**options), kernels(), strict=True):
    np.testing.assert_array_equal(changed, default)
