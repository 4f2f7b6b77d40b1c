"""Soft cosine similarity: values, derivatives, transformations, dtypes and errors."""

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

from scs_jax import sharpened_cosine_similarity, soft_cosine_similarity

SHARPNESSES = (0.1, 0.5, 1.0, 2.0, 3.0, 20.0)


pytestmark = pytest.mark.usefixtures('strict_promotion')
quick = pytest.mark.usefixtures('quick_compilation')


# Comparison with a NumPy loop that forms M.


def check_against_loop(case, rank, mixing_dtype):
  features = int(np.prod(case.kernel.shape[:-1]))
  random = np.random.default_rng(case.seed + 1)
  with jax.enable_x64(True):
    x, kernel = jnp.asarray(case.x, case.x_dtype), jnp.asarray(case.kernel, case.kernel_dtype)
    mixing = jnp.asarray(random.normal(size=(features, rank)), mixing_dtype)
    known = (case.x_dtype, case.kernel_dtype, mixing_dtype)
    dtype = 'float64' if 'float64' in known else 'float32'
    p, q, kernel_q = (
      v if v is None else np.asarray(v, dtype).astype('float64')
      for v in (case.p, case.q, case.kernel_q)
    )
    y = jax.jit(
      lambda x, k, m: soft_cosine_similarity(
        x, k, m, case.p, case.q, kernel_q=case.kernel_q, precision='highest', **case.arguments
      )
    )(x, kernel, mixing)
    assert y.dtype == x.dtype
    arguments = (x, kernel, mixing, q, kernel_q)
    c = oracles.soft_cosine(*arguments, **case.arguments)
    assert y.shape == c.shape
    # The bound is that of the plain cosine, times the factor by which A magnifies rounding errors.
    # The factor is large for a patch that A nearly cancels.
    magnified = oracles.soft_condition(*arguments, **case.arguments)
    c_error = np.finfo(dtype).eps * (features + rank + 8) * magnified
    oracles.assert_sharpened(np.asarray(y), c, p, c_error, dtype)


SOFT_CASES = (
  oracles.similarity_cases(),
  st.integers(1, 12),
  st.sampled_from(['float64', 'float32', 'float32', 'bfloat16']),
)


@quick
@hypothesis.settings(max_examples=40, derandomize=True, deadline=None, database=None)
@hypothesis.given(*SOFT_CASES)
def test_equals_loop(case, rank, mixing_dtype):
  check_against_loop(case, rank, mixing_dtype)


@pytest.mark.exhaustive
@hypothesis.settings(max_examples=300, deadline=None, database=None)
@hypothesis.given(*SOFT_CASES)
def test_equals_loop_exhaustive(case, rank, mixing_dtype):
  check_against_loop(case, rank, mixing_dtype)


@quick
@pytest.mark.parametrize('groups', [1, 2, 4])
def test_identity_mixing_is_the_plain_similarity(groups):
  x, kernel = normal(0, 2, 6, 5, 4), normal(1, 3, 2, 4 // groups, 8)
  p, q = jnp.linspace(0.3, 4, 8), jnp.linspace(0, 2, 8)
  arguments = {'strides': (1, 2), 'kernel_dilation': (2, 1), 'feature_group_count': groups}
  identity = jnp.eye(6 * 4 // groups)
  soft = jax.jit(lambda x: soft_cosine_similarity(x, kernel, identity, p, q, **arguments))
  plain = jax.jit(lambda x: sharpened_cosine_similarity(x, kernel, p, q, **arguments))
  # Near 0, an error of 1e-6 in c may change |c|**0.3 by 1e-2. No c here is that close to 0.
  np.testing.assert_allclose(soft(x), plain(x), atol=2e-5)


# Values computed by hand, for one patch of two features: M = [[1, m], [m, 1]] = A·Aᵀ with
# A = [[1, 0], [m, √(1-m²)]].


@pytest.mark.parametrize(
  ('s', 'k', 'm', 'p', 'q', 'y'),
  [
    ([1, 0], [0, 1], 0.0, 1, 0, 0.0),
    ([1, 0], [0, 1], 0.6, 1, 0, 0.6),  # orthogonal, but the features are similar
    ([1, 0], [0, 1], 0.6, 2, 0, 0.36),
    ([1, 0], [0, -1], 0.6, 2, 0, -0.36),
    ([1, 0], [0, 1], 0.6, 1, 1, 0.15),  # 0.6 / (2 · 2)
    ([1, 1], [1, -1], 0.6, 1, 0, 0.0),
    ([1, 1], [1, 0], 0.6, 1, 0, 1.6 / 3.2**0.5),
    ([1, 1], [2, 2], 0.6, 3, 0, 1.0),
    ([0, 0], [2, 2], 0.6, 0.1, 0, 0.0),
  ],
)
def test_by_hand(s, k, m, p, q, y):
  mixing = jnp.array([[1.0, 0.0], [m, (1 - m * m) ** 0.5]])
  x, kernel = jnp.array(s, jnp.float32)[None, None], jnp.array(k, jnp.float32)[None, :, None]
  found = soft_cosine_similarity(x, kernel, mixing, p, q)
  np.testing.assert_allclose(found.ravel(), [y], rtol=2e-6, atol=1e-7)


@quick
def test_rank_1_distinguishes_only_signs():
  """If A has rank 1, Aᵀs is a number, and the cosine of two numbers is ±1."""
  mixing = normal(2, 6, 1)
  f = jax.jit(lambda x, k: soft_cosine_similarity(x, k, mixing, 2.5))
  y = f(normal(0, 2, 4, 3), normal(1, 2, 3, 5))
  np.testing.assert_allclose(jnp.abs(y), 1, rtol=1e-5)


# Derivatives and transformations.


@quick
@pytest.mark.parametrize('rank', [3, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_derivatives(rank):
  with jax.enable_x64(True):
    x, kernel = normal(0, 1, 4, 4, dtype='float64') + 0.5, normal(1, 2, 2, 2, dtype='float64')
    mixing = normal(2, 4, rank, dtype='float64')
    q = np.array([0.2, 0.7])
    c = oracles.soft_cosine(x, kernel, mixing, q, feature_group_count=2)
    weight = jnp.asarray(np.abs(c) >= 1e-2, 'float64')
    assert weight.mean() > 0.8
    f = lambda *a: weight * soft_cosine_similarity(*a, feature_group_count=2)
    arguments = (x, kernel, mixing, jnp.array([0.8, 2.5]), jnp.asarray(q))
    check_grads(jax.jit(f), arguments, order=2, modes=('fwd', 'rev'))


def derivatives(arguments, directions, f):
  loss = lambda arguments: f(*arguments).astype(jnp.float32).sum()
  gradient = jax.grad(loss)
  y, tangent = jax.jvp(f, arguments, directions)
  return {
    'y': y,
    'tangent': tangent,
    'gradient': gradient(arguments),
    'checkpointed': jax.grad(jax.checkpoint(loss))(arguments),
    'product': jax.jvp(gradient, (arguments,), (directions,))[1],
  }


@quick
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_zeros_give_zero_and_finite_derivatives(dtype):
  x = normal(0, 1, 6, 2, dtype=dtype).at[:, :4].set(0)
  kernel, mixing = normal(1, 2, 2, 6, dtype=dtype), normal(2, 4, 3, dtype=dtype)
  sharpness = jnp.array(SHARPNESSES)
  f = jax.jit(functools.partial(derivatives, f=soft_cosine_similarity))
  for q in (0.0, 0.1):
    for k, a in (
      (kernel, mixing),
      (kernel.at[..., ::2].set(0), mixing),
      (jnp.zeros_like(kernel), mixing),
      (kernel, jnp.zeros_like(mixing)),
    ):
      arguments = (x, k, a, sharpness, jnp.float32(q))
      found = f(arguments, jax.tree.map(jnp.ones_like, arguments))
      assert (found['y'][:, :3] == 0).all()
      for leaf in jax.tree.leaves(found):
        assert jnp.isfinite(leaf.astype(jnp.float32)).all(), (q, leaf)


def inputs(batch=2):
  x, kernel, mixing = normal(0, batch, 5, 4), normal(1, 2, 2, 4), normal(2, 4, 3)
  return x, kernel, mixing, jnp.array([0.5, 1.0, 2.5, 4.0]), jnp.array([0.0, 0.1, 1.0, 3.0])


def soft(*arguments):
  return soft_cosine_similarity(*arguments, feature_group_count=2, strides=2, precision='highest')


@quick
def test_derivatives_under_jit():
  arguments = inputs()
  directions = tuple(normal(7 + i, *a.shape) for i, a in enumerate(arguments))
  found = jax.jit(functools.partial(derivatives, f=soft))(arguments, directions)
  np.testing.assert_allclose(found['y'], soft(*arguments), atol=1e-6)
  along = sum(jnp.vdot(g, d) for g, d in zip(found['gradient'], directions, strict=True))
  np.testing.assert_allclose(found['tangent'].sum(), along, rtol=1e-4)
  for a, b in zip(found['checkpointed'], found['gradient'], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert all(jnp.isfinite(v).all() for v in found['product'])


@quick
@pytest.mark.parametrize('axes', [(0, *[None] * 4), (None, 0, None, None, None), (0,) * 5])
def test_vmap(axes):
  f = jax.jit(soft)
  arguments = [
    a if axis is None else jnp.stack([a, 0.5 * a + 0.1, jnp.flip(a, -1)])
    for a, axis in zip(inputs(), axes, strict=True)
  ]
  pick = lambda i: [a if axis is None else a[i] for a, axis in zip(arguments, axes, strict=True)]
  loop = jnp.stack([f(*pick(i)) for i in range(3)])
  np.testing.assert_allclose(jax.vmap(f, axes)(*arguments), loop, atol=1e-5)


@quick
def test_shard_map():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  x, *parameters = inputs(8)

  def loss(parameters, x):
    y = soft(x, *parameters)
    return y.sum(), y

  def local(parameters, x):
    parameters = jax.lax.pcast(parameters, 'data', to='varying')
    (_, y), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, x)
    return y, jax.lax.psum(gradient, 'data')

  sharded = jax.shard_map(local, mesh=mesh, in_specs=(P(), P('data')), out_specs=(P('data'), P()))
  y, gradient = jax.jit(sharded)(parameters, x)
  (_, y_all), gradient_all = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters, x)
  np.testing.assert_allclose(y, y_all, atol=1e-6)
  for a, b in zip(gradient, gradient_all, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_export_lowers_for_every_platform():
  exported = jax.export.export(jax.jit(soft), platforms=['cpu', 'tpu', 'cuda'])(*inputs())
  assert exported.out_avals[0].shape == (2, 3, 4)


@quick
def test_is_bounded_whatever_the_scale():
  x = normal(0, 16, 2, 2)
  f = jax.jit(lambda x, k, m: soft_cosine_similarity(x, k, m, 20.0, padding='VALID'))
  for scale in (1e-6, 1.0, 1e6):
    x_scaled = x * scale
    y = f(x_scaled, jnp.moveaxis(x_scaled, 0, -1), normal(1, 4, 6))[:, 0]
    assert (jnp.abs(y) <= 1).all()
    np.testing.assert_allclose(jnp.diag(y), 1, rtol=5e-5)


def test_dtype_is_that_of_x():
  x, kernel, mixing, p, q = inputs()
  for x_dtype in ('bfloat16', 'float16', 'float32'):
    for other in ('float32', 'bfloat16', 'float16'):
      y = jax.eval_shape(soft, x.astype(x_dtype), kernel.astype(other), mixing, p, q)
      assert y.dtype == x_dtype
  assert jax.eval_shape(soft, x[:0], kernel, mixing, p, q).shape == (0, 3, 4)


X, KERNEL, MIXING = (np.ones(s, 'float32') for s in ((2, 6, 6, 4), (3, 3, 4, 5), (36, 7)))


@pytest.mark.parametrize(
  ('replaced', 'match'),
  [
    ({'x': X.astype('int32')}, 'x must be floating, got dtype int32'),
    ({'x': X[0, 0]}, r'x must be .*got shape \(6, 4\)'),
    ({'kernel': KERNEL.astype('int32')}, 'kernel must be floating, got dtype int32'),
    ({'kernel': np.float32(1)}, r'kernel must be .*got shape \(\)'),
    ({'kernel': KERNEL[..., :0]}, r'kernel of shape \(3, 3, 4, 0\) holds no kernels'),
    ({'kernel': KERNEL[:, :, :2]}, r'kernel of shape \(3, 3, 2, 5\) takes 2'),
    ({'mixing': MIXING.astype('int32')}, 'mixing must be floating, got dtype int32'),
    ({'mixing': MIXING[:35]}, r'mixing must be \[36, rank\].*got \(35, 7\)'),
    ({'mixing': MIXING[:, 0]}, r'mixing must be \[36, rank\].*got \(36,\)'),
    ({'mixing': MIXING[:, :0]}, r'mixing must be \[36, rank\].*got \(36, 0\)'),
    ({'p': 0}, 'p must be greater than 0 .*got 0'),
    ({'p': np.ones(3)}, r'p must be a scalar or \[5\].*got \(3,\)'),
    ({'q': -1}, 'q must be at least 0 .*got -1'),
    ({'kernel_q': -1}, 'kernel_q must be at least 0 .*got -1'),
    ({'feature_group_count': 3}, 'feature_group_count 3 does not divide'),
    ({'strides': 0}, 'strides must be at least 1 .*got 0'),
    ({'kernel_dilation': (0, 1)}, r'kernel_dilation must be at least 1 .*got \(0, 1\)'),
    ({'padding': 'sam'}, "padding must be 'SAME', 'SAME_LOWER', 'VALID'.*got 'sam'"),
    ({'padding': 'VALID', 'x': X[:, :2]}, 'kernel window .*larger than the padded input'),
  ],
)
def test_refuses(replaced, match):
  with pytest.raises(ValueError, match=match):
    soft_cosine_similarity(**{'x': X, 'kernel': KERNEL, 'mixing': MIXING, **replaced})
