"""Absolute max pooling: values, derivatives, transformations and errors."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from arrays import normal
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from scs_jax import abs_max_pool
from scs_jax.ops import reference

pytestmark = pytest.mark.usefixtures('strict_promotion', 'quick_compilation')


# Comparison with a NumPy loop and the reference. Nothing is rounded, so all are equal.


def check_against_loop(case, values, dtype):
  shape = (case.batch, *case.spatial, case.features_per_group)
  x = np.random.default_rng(case.seed).normal(size=shape)
  if values == 'few':  # Many ties and many windows of zeros.
    x = np.clip(np.rint(x), -1, 1)
  elif values == 'negative':
    x = -np.abs(x)
  with jax.enable_x64(True):
    x = jnp.asarray(x, dtype)
    strides = (case.strides,) * len(case.spatial) if isinstance(case.strides, int) else case.strides

    @jax.jit
    def both(x):
      pool = lambda x: abs_max_pool(x, case.window, case.strides, case.padding)
      gradient = jax.grad(lambda x: pool(x).sum())(x)
      return pool(x), gradient, reference.abs_max_pool(x, case.window, strides, case.padding)

    y, gradient, patches = both(x)
    assert y.dtype == x.dtype
    wanted = oracles.abs_max_pool(np.asarray(x, 'float64'), case.window, case.strides, case.padding)
    np.testing.assert_array_equal(np.asarray(y, 'float64'), wanted)
    np.testing.assert_array_equal(y, patches)
    # Each window sends its gradient to one element. Gradients are therefore whole numbers, and
    # their sum is the number of windows that see the image. Wide padding hides it from some.
    inside = oracles.abs_max_pool(np.ones(shape), case.window, case.strides, case.padding)
    assert float(gradient.sum(dtype='float32')) == inside.sum()
    np.testing.assert_array_equal(gradient, jnp.round(gradient))


POOL_CASES = (
  oracles.window_cases(),
  st.sampled_from(['normal', 'few', 'negative']),
  st.sampled_from(['float64', 'float32', 'bfloat16', 'float16']),
)


@hypothesis.settings(max_examples=40, derandomize=True, deadline=None, database=None)
@hypothesis.given(*POOL_CASES)
def test_equals_loop(case, values, dtype):
  check_against_loop(case, values, dtype)


@pytest.mark.exhaustive
@hypothesis.settings(max_examples=300, deadline=None, database=None)
@hypothesis.given(*POOL_CASES)
def test_equals_loop_exhaustive(case, values, dtype):
  check_against_loop(case, values, dtype)


# Values computed by hand.


def row(*values, **pool):
  """Pools one row of numbers."""
  x = jnp.array(values, jnp.float32).reshape(1, -1, 1)
  pool['window_shape'] = (pool['window_shape'],)
  return abs_max_pool(x, **pool).ravel().tolist()


def test_by_hand():
  assert row(1, -3, 2, 2, window_shape=2, strides=2) == [-3, 2]
  assert row(1, -3, 2, 2, window_shape=2) == [-3, -3, 2]  # strides=None means 1
  assert row(1, -3, 2, 2, window_shape=2, strides=(1,), padding='SAME') == [-3, -3, 2, 2]
  assert row(0.5, -0.9, 0.1, window_shape=3) == [-0.8999999761581421]
  assert row(-2, 2, -2, window_shape=2) == [2, 2]  # +2 wins the tie, in either order
  assert row(1, 2, 3, 4, 5, window_shape=1, strides=3) == [1, 4]


def test_two_dimensions_by_hand():
  x = jnp.array([[1.0, -5.0, 2.0], [0.0, 3.0, -3.0], [4.0, 0.0, -1.0]]).reshape(1, 3, 3, 1)
  assert abs_max_pool(x, (2, 2)).ravel().tolist() == [-5, -5, 4, 3]
  assert abs_max_pool(x, (3, 1), (1, 2)).ravel().tolist() == [4, -3]


def test_padding_never_wins():
  for padding in ('SAME', 1, (1,), ((2, 2),)):
    y = row(-1e-30, -1e-20, -1e-25, window_shape=3, padding=padding)
    assert all(v < 0 for v in y), (padding, y)
  x = jnp.zeros((1, 4, 1))
  gradient = jax.grad(lambda x: abs_max_pool(x, (3,), padding='SAME').sum())(x)
  # The gradient goes to the first element inside, never to the padding.
  assert gradient.ravel().tolist() == [2, 1, 1, 0]
  assert row(-1, -2, window_shape=2, padding=2) == [0, -1, -2, -2, 0]  # padding alone gives 0


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_gradient_goes_to_one_element(dtype):
  pool = functools.partial(abs_max_pool, window_shape=(3,))
  for values, wanted in (
    ((0, 0, 0), (1, 0, 0)),
    ((2, -2, 2), (1, 0, 0)),
    ((-2, 2, 2), (0, 1, 0)),
    ((-2, -2, 1), (1, 0, 0)),
    ((1, 2, -3), (0, 0, 1)),
  ):
    x = jnp.array(values, dtype).reshape(1, 3, 1)
    assert jax.grad(lambda x: pool(x).sum())(x).ravel().tolist() == list(wanted)


def test_nan_and_infinity_are_kept():
  nan, inf = float('nan'), float('inf')
  for values in ((nan, 1, 2), (1, nan, 2), (1, 2, nan), (inf, nan, -inf)):
    assert np.isnan(row(*values, window_shape=3)).all()
  assert row(1, -inf, 2, window_shape=3) == [-inf]
  assert row(inf, -inf, 2, window_shape=2) == [inf, -inf]
  assert np.isnan(row(nan, 1, 2, window_shape=2, padding='SAME')).tolist() == [True, False, False]


def test_edges():
  x = normal(0, 2, 5, 1, 3)
  assert abs_max_pool(x[:0], 1).shape == (0, 5, 1, 3)
  assert abs_max_pool(x, (2, 1), 4, 'SAME').shape == (2, 2, 1, 3)
  np.testing.assert_array_equal(abs_max_pool(x, 1), x)
  view = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).transpose(0, 2, 1, 3)[:, ::2]
  np.testing.assert_array_equal(abs_max_pool(view, np.int64(2)), abs_max_pool(view.copy(), [2, 2]))


def test_any_number_of_batch_dimensions():
  x = normal(0, 2, 3, 8, 6, 3)
  pool = jax.jit(lambda x: abs_max_pool(x, (2, 3), (2, 3), 'SAME'))
  images = jnp.stack([pool(image) for image in x])
  np.testing.assert_array_equal(pool(x), images)
  np.testing.assert_array_equal(pool(x[0, 0]), images[0, 0])
  np.testing.assert_array_equal(pool(x[None]), images[None])
  assert pool(x[:0]).shape == (0, 3, 4, 2, 3)
  rows = abs_max_pool(x[0], (3,))  # Height is then a batch dimension.
  np.testing.assert_array_equal(rows, abs_max_pool(x[0], (1, 3)))
  np.testing.assert_array_equal(jax.grad(lambda x: pool(x).sum())(x[0, 1]).sum(), 4 * 2 * 3)


# Derivatives and transformations.


@pytest.mark.parametrize(
  ('shape', 'arguments'),
  [
    ((2, 6, 2), ((3,), 2, 'SAME')),
    ((1, 4, 4, 1), ((2, 3), 1)),
    ((1, 3, 2, 3, 1), ((2, 2, 2), 1, 1)),
  ],
)
def test_derivatives(shape, arguments):
  # Magnitudes are 0.1 apart: at ties, the pool has no derivative.
  size = int(np.prod(shape))
  random = np.random.default_rng(0)
  values = random.permutation(np.arange(1, size + 1)) * random.choice([-0.1, 0.1], size)
  with jax.enable_x64(True):
    pool = jax.jit(lambda x: jnp.sin(abs_max_pool(x, *arguments)))  # sin adds curvature
    check_grads(pool, (jnp.asarray(values.reshape(shape)),), order=2, modes=('fwd', 'rev'))


def test_transformations():
  x, direction, weight = normal(0, 2, 6, 5, 3), normal(1, 2, 6, 5, 3), normal(2, 2, 3, 5, 3)
  pool = lambda x: abs_max_pool(x, (3, 2), (2, 1), 'SAME')
  loss = lambda x: (weight * pool(x) ** 2).sum()
  y, tangent = jax.jit(lambda x: jax.jvp(pool, (x,), (direction,)))(x)
  np.testing.assert_array_equal(y, pool(x))
  gradient, product = jax.jit(lambda x: jax.jvp(jax.grad(loss), (x,), (direction,)))(x)
  np.testing.assert_allclose(
    jnp.vdot(gradient, direction), jnp.vdot(2 * weight * y, tangent), rtol=1e-5
  )
  np.testing.assert_allclose(
    jnp.vdot(product, direction), jnp.vdot(2 * weight * tangent, tangent), rtol=1e-5
  )
  np.testing.assert_array_equal(jax.jit(jax.grad(jax.checkpoint(loss)))(x), gradient)
  many = jnp.stack([x, -x, x[::-1]])
  np.testing.assert_array_equal(jax.vmap(pool)(many), jnp.stack([pool(v) for v in many]))


def test_shard_map():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  x = normal(0, 8, 6, 3)
  pool = lambda x: abs_max_pool(x, (3,), 2, 'SAME')
  both = lambda x: (pool(x), jax.grad(lambda x: (pool(x) ** 2).sum())(x))
  sharded = jax.shard_map(both, mesh=mesh, in_specs=P('data'), out_specs=P('data'))
  for found, wanted in zip(jax.jit(sharded)(x), both(x), strict=True):
    np.testing.assert_array_equal(found, wanted)


def test_export_lowers_for_every_platform():
  pool = jax.jit(lambda x: abs_max_pool(x, 3, 2, 'SAME'))
  exported = jax.export.export(pool, platforms=['cpu', 'tpu', 'cuda'])(jnp.ones((2, 6, 6, 3)))
  assert exported.out_avals[0].shape == (2, 3, 3, 3)


X = np.ones((2, 6, 6, 4), 'float32')


@pytest.mark.parametrize(
  ('x', 'arguments', 'match'),
  [
    (X.astype('int32'), (2,), 'x must be floating, got dtype int32'),
    (X[0, 0], ((2, 2),), r'x must be .* with 2 spatial dimensions.*got shape \(6, 4\)'),
    (X[0], (2,), r'window_shape must have one entry for each .*\(6, 6, 4\)'),
    (X[None], (2,), r'window_shape must have one entry for each .*\(1, 2, 6, 6, 4\)'),
    (X[None, None], ((1, 2, 2, 2),), 'one to three spatial dimensions'),
    (X, ((),), 'one to three spatial dimensions'),
    (X, (0,), 'window_shape must be at least 1 .*got 0'),
    (X, ((2, 2), (2,)), r'strides \(2,\) has 1 entries'),
    (X, (2.0,), 'window_shape must be an integer .*got 2.0'),
    (X, (7,), r'window_shape \(7, 7\) .*larger than the padded input \(6, 6\)'),
    (X, (2, 0), 'strides must be at least 1 .*got 0'),
    (X, (2, (1, 2, 3)), r'strides \(1, 2, 3\) has 3 entries'),
    (X, (2, 1, 'valit'), "padding must be 'SAME', 'SAME_LOWER', 'VALID',.*got 'valit'"),
    (X, (2, 1, -1), 'padding must not be negative, got -1'),
    (X, (2, 1, ((1, 1),)), r'padding must be .*got \(\(1, 1\),\)'),
  ],
)
def test_refuses(x, arguments, match):
  with pytest.raises(ValueError, match=match):
    abs_max_pool(x, *arguments)
