"""Sharpened cosine similarity: values, derivatives, transformations, dtypes and errors."""

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

from scs_jax import sharpened_cosine_similarity as scs
from scs_jax.ops.scs import METHODS

PLAIN_METHODS = METHODS[1:]  # 'auto' picks one of these.
SHARPNESSES = (0.1, 0.5, 1.0, 2.0, 3.0, 20.0)


pytestmark = pytest.mark.usefixtures('strict_promotion')
quick = pytest.mark.usefixtures('quick_compilation')


# Comparison with a NumPy loop.


def check_against_loop(case, method):
  with jax.enable_x64(True):
    x, kernel = jnp.asarray(case.x, case.x_dtype), jnp.asarray(case.kernel, case.kernel_dtype)
    dtype = 'float64' if 'float64' in (case.x_dtype, case.kernel_dtype) else 'float32'
    # The op casts p and q to the dtype of the power, so the oracle must see the cast values.
    p, q, kernel_q = (
      v if v is None else np.asarray(v, dtype).astype('float64')
      for v in (case.p, case.q, case.kernel_q)
    )
    case.arguments = {**case.arguments, 'center': case.center}
    similarity = functools.partial(scs, method=method, precision='highest', **case.arguments)
    if isinstance(case.p, int | float):  # A static p is not traced.
      y = jax.jit(lambda x, k: similarity(x, k, case.p, case.q, kernel_q=case.kernel_q))(x, kernel)
    else:
      y = jax.jit(lambda x, k, p, q, r: similarity(x, k, p, q, kernel_q=r))(
        x, kernel, case.p, case.q, case.kernel_q
      )
    assert y.dtype == x.dtype
    c = oracles.cosine(x, kernel, q, kernel_q, **case.arguments)
    assert y.shape == c.shape
    # With n products, the dot product and each norm err by at most n/2 eps (n roundings of half an
    # eps). The 8 covers everything else.
    c_error = np.finfo(dtype).eps * (kernel.size // kernel.shape[-1] + 8)
    if case.center:  # Centred values are rounded to the dtype in which they are multiplied.
      del case.arguments['center']
      condition = oracles.centered_condition(x, kernel, q, kernel_q, **case.arguments)
      narrow = max(float(jnp.finfo(a.dtype).eps) for a in (x, kernel))
      c_error = c_error + (c_error + narrow) * condition
    oracles.assert_sharpened(np.asarray(y), c, p, np.where(c == 0, 0, c_error), dtype)


@hypothesis.settings(max_examples=40, derandomize=True, deadline=None, database=None)
@hypothesis.given(oracles.similarity_cases(), st.sampled_from(METHODS))
def test_equals_loop(case, method):
  check_against_loop(case, method)


@pytest.mark.exhaustive
@hypothesis.settings(max_examples=300, deadline=None, database=None)
@hypothesis.given(oracles.similarity_cases(), st.sampled_from(METHODS))
def test_equals_loop_exhaustive(case, method):
  check_against_loop(case, method)


# Values computed by hand. The window is the whole image, so y is one number for each kernel.


def compare(s, k, p=1, q=0.0, **arguments):
  """Returns y for one patch and one kernel, given as flat lists."""
  x = jnp.asarray(s, jnp.float32)[None, :, None]
  return float(
    scs(x, jnp.asarray(k, jnp.float32)[:, None, None], p, q, padding='VALID', **arguments)[0, 0, 0]
  )


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
  ('s', 'k', 'p', 'q', 'y'),
  [
    ([1, 2, 2], [1, 2, 2], 3, 0, 1.0),
    ([1, 2, 2], [-2, -4, -4], 3, 0, -1.0),
    ([1, 2, 2], [-1, -2, -2], 2.0, 0, -1.0),  # An even power keeps the sign.
    ([1, 2, 2], [2, 1, -2], 0.5, 0, 0.0),
    ([3, 4], [4, 3], 1, 0, 24 / 25),
    ([3, 4], [4, 3], 2, 0, 0.9216),
    ([3, 4], [-4, -3], 2.0, 0, -0.9216),
    ([1, 0], [1, 1], 2, 0, 0.5),  # (1/√2)²
    ([1, 0], [1, 1], 4, 0, 0.25),
    ([3, 4], [3, 4], 1, 5, 0.25),  # 25 / (10 · 10)
    ([3, 4], [4, 3], 1, 1, 24 / 36),
    ([3, 4], [4, 3], 2, 1, 4 / 9),
    ([0, 0], [4, 3], 0.1, 0, 0.0),
  ],
)
def test_by_hand(s, k, p, q, y, method):
  assert compare(s, k, p, q, method=method) == pytest.approx(y, abs=2e-7, rel=1e-6)


def test_kernel_q_by_hand():
  assert compare([3, 4], [4, 3], 1, 1, kernel_q=0) == pytest.approx(24 / 30)
  assert compare([3, 4], [4, 3], 1, 0, kernel_q=5) == pytest.approx(24 / 50)


def test_same_padding_by_hand():
  # With 'SAME' padding, the patches of the ramp 1, 2, 3 are [1, 2], [2, 3] and [3, 0].
  x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
  y = scs(x, jnp.ones((2, 1, 1)), 2)
  np.testing.assert_allclose(y.ravel(), [9 / 10, 25 / 26, 1 / 2], rtol=1e-6)


def test_groups_by_hand():
  x = jnp.array([3.0, 4.0, 1.0, 0.0]).reshape(1, 1, 4)  # groups [3, 4] and [1, 0]
  kernel = jnp.array([[4.0, 3.0, 1.0, 0.0], [3.0, -4.0, 1.0, 1.0]])[None]  # two each
  y = scs(x, kernel, feature_group_count=2)
  np.testing.assert_allclose(y.ravel(), [24 / 25, -7 / 25, 0.5**0.5, 0], atol=1e-7)


# Derivatives.


def check_derivatives(method, shape, kernel_shape, **arguments):
  """Runs `check_grads` where |c| is at least 1e-2, so that finite differences are accurate."""
  out = kernel_shape[-1]
  random = np.random.default_rng(3)
  with jax.enable_x64(True):
    x, kernel = normal(1, *shape, dtype='float64'), normal(2, *kernel_shape, dtype='float64')
    x = x + 0.5
    p, q = random.uniform(0.7, 3, out), random.uniform(0.1, 1, out)
    c = oracles.cosine(x, kernel, q, **arguments)
    weight = jnp.asarray(np.abs(c) >= 1e-2, x.dtype)
    assert weight.mean() > 0.8
    f = jax.jit(lambda x, k, p, q: weight * scs(x, k, p, q, method=method, **arguments))
    check_grads(f, (x, kernel, jnp.asarray(p), jnp.asarray(q)), order=2, modes=('fwd', 'rev'))


DERIVATIVES = {
  'dense': ((1, 4, 2), (2, 2, 2), {}),
  'depthwise': ((1, 5, 2), (2, 1, 4), {'feature_group_count': 2, 'strides': 2}),
  'grouped': ((1, 4, 4, 4), (2, 3, 2, 2), {'feature_group_count': 2, 'padding': 'VALID'}),
  'dilated': ((1, 5, 2), (2, 2, 2), {'kernel_dilation': 2, 'padding': ((1, 0),)}),
  'volume': ((1, 2, 3, 2, 1), (2, 2, 2, 1, 2), {}),
}


@quick
@pytest.mark.parametrize(
  ('name', 'method'),
  [('depthwise', 'shifts'), ('grouped', 'convolution'), ('dilated', 'patches')],
)
def test_derivatives(name, method):
  shape, kernel_shape, arguments = DERIVATIVES[name]
  check_derivatives(method, shape, kernel_shape, **arguments)


@quick
@pytest.mark.exhaustive
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', DERIVATIVES)
def test_derivatives_exhaustive(name, method):
  shape, kernel_shape, arguments = DERIVATIVES[name]
  check_derivatives(method, shape, kernel_shape, **arguments)


def derivatives(similarity, *arguments):
  """Returns y, its gradients and a Hessian-vector product with respect to every argument."""

  def total(arguments):
    return similarity(*arguments).astype(jnp.float32).sum()

  gradient = jax.grad(total)
  ones = jax.tree.map(jnp.ones_like, arguments)
  return (similarity(*arguments), *jax.jvp(gradient, (arguments,), (ones,)))


@quick
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('method', PLAIN_METHODS)
def test_zeros_give_zero_and_finite_derivatives(method, dtype):
  x = normal(0, 1, 6, 6, 1, dtype=dtype).at[:, :4].set(0).at[:, 4, :4].set(0)
  kernel = normal(1, 2, 2, 1, 6, dtype=dtype)
  sharpness = jnp.array(SHARPNESSES)
  f = jax.jit(lambda *a: derivatives(functools.partial(scs, method=method), *a))
  for q in (0.0, 0.1):
    for k in (kernel, kernel.at[..., ::2].set(0), jnp.zeros_like(kernel)):
      for image in (x, jnp.zeros_like(x)):
        y, gradient, curvature = f(image, k, sharpness, jnp.float32(q))
        assert (y[:, :2] == 0).all()
        assert (jnp.where((k == 0).all((0, 1, 2)), y, 0) == 0).all()
        for leaf in jax.tree.leaves((y, gradient, curvature)):
          assert jnp.isfinite(leaf.astype(jnp.float32)).all(), (method, q, leaf)


@quick
def test_zeros_give_finite_derivatives_for_static_p():
  x = normal(0, 1, 5, 2).at[:, :3].set(0)
  kernel = normal(1, 2, 2, 2).at[..., 0].set(0)

  def all_powers(x, kernel, q):
    powers = (0.1, 0.5, 1, 2, 3, 20)
    return [derivatives(lambda x, k, q, p=p: scs(x, k, p, q), x, kernel, q) for p in powers]

  for q in (0.0, 0.1):
    for y, gradient, curvature in jax.jit(all_powers)(x, kernel, jnp.float32(q)):
      assert (y[:, :2] == 0).all()
      assert (y[..., 0] == 0).all()
      for leaf in jax.tree.leaves((gradient, curvature)):
        assert jnp.isfinite(leaf).all(), leaf


@quick
def test_orthogonal_patches_have_finite_derivatives():
  """At c = 0 the slope of the equation is infinite for p < 1, also between nonzero vectors."""
  x, kernel = jnp.array([[[1.0, 0.0]]]), jnp.tile(jnp.array([[[0.0], [1.0]]]), 6)
  f = jax.jit(functools.partial(derivatives, scs))
  for leaf in jax.tree.leaves(f(x, kernel, jnp.array(SHARPNESSES), jnp.float32(0))):
    assert jnp.isfinite(leaf).all()


@quick
def test_gradient_vanishes_nowhere_at_self_similarity():
  """Rounding may lift |c| above 1. The clamp must pass the gradients of p and q."""
  x = normal(0, 1, 7, 3)
  kernel = jnp.moveaxis(x, 0, -1)
  grad = jax.jit(jax.grad(lambda q: scs(x, kernel, 2.0, q, padding='VALID').sum()))(0.0)
  norm = jnp.sqrt(jnp.square(x).sum())
  np.testing.assert_allclose(grad, -4 / norm, rtol=1e-4)  # y = (|s|/(|s|+q))^4


# Transformations.

GROUPED = {'feature_group_count': 2, 'strides': (2, 1)}  # On CPU, 'auto' shifts.


def inputs(batch=2, dtype='float32'):
  x, kernel = normal(0, batch, 5, 4, 2, dtype=dtype), normal(1, 2, 2, 1, 4, dtype=dtype)
  return x, kernel, jnp.array([0.5, 1.0, 2.5, 4.0]), jnp.array([0.0, 0.1, 1.0, 3.0])


def transformed(method, x, kernel, p, q, directions):
  """Returns y, gradients with and without checkpoint, a tangent, a Hessian-vector product."""
  weight = normal(9, *jax.eval_shape(lambda: scs(x, kernel, p, q, **GROUPED)).shape)

  def f(arguments):
    return scs(*arguments, method=method, precision='highest', **GROUPED)

  loss = lambda arguments: (weight * f(arguments)).sum()
  arguments = (x, kernel, p, q)
  gradient = jax.grad(loss)
  y, tangent = jax.jvp(f, (arguments,), (directions,))
  return {
    'y': y,
    'tangent': tangent,
    'gradient': gradient(arguments),
    'checkpointed': jax.grad(jax.checkpoint(loss))(arguments),
    'product': jax.jvp(gradient, (arguments,), (directions,))[1],
  }, weight


@pytest.fixture(scope='module')
def expected(strict_promotion):
  arguments = inputs()
  directions = jax.tree.map(lambda a: normal(5, *a.shape), arguments)
  return (
    arguments,
    directions,
    jax.jit(transformed, static_argnums=0)('patches', *arguments, directions)[0],
  )


@quick
@pytest.mark.parametrize('method', PLAIN_METHODS)
def test_derivatives_agree_under_jit(method, expected):
  arguments, directions, wanted = expected
  found, weight = jax.jit(transformed, static_argnums=0)(method, *arguments, directions)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), found, wanted)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    found['checkpointed'],
    found['gradient'],
  )
  along = sum(jnp.vdot(g, d) for g, d in zip(found['gradient'], directions, strict=True))
  np.testing.assert_allclose(jnp.vdot(weight, found['tangent']), along, rtol=1e-4)
  eager = scs(*arguments, method=method, precision='highest', **GROUPED)
  np.testing.assert_allclose(found['y'], eager, atol=1e-6)


@quick
@pytest.mark.parametrize('axes', [(0, None, None, None), (None, 0, None, None), (0, 0, 0, 0)])
@pytest.mark.parametrize('method', METHODS)
def test_vmap(method, axes):
  f = jax.jit(functools.partial(scs, method=method, precision='highest', **GROUPED))
  arguments = inputs()
  arguments = [
    a if axis is None else jnp.stack([a, 0.5 * a + 0.1, jnp.flip(a, -1)])
    for a, axis in zip(arguments, axes, strict=True)
  ]
  pick = lambda i: [a if axis is None else a[i] for a, axis in zip(arguments, axes, strict=True)]
  loop = jnp.stack([f(*pick(i)) for i in range(3)])
  np.testing.assert_allclose(jax.vmap(f, axes)(*arguments), loop, atol=1e-5)


@quick
def test_vmap_of_gradient_of_depthwise_kernel():
  x, kernels = normal(0, 2, 5, 3), normal(1, 4, 3, 1, 3)
  grad = jax.grad(lambda k: scs(x, k, 2.5, 0.1, feature_group_count=3).sum())
  grad = jax.jit(grad)
  loop = jnp.stack([grad(k) for k in kernels])
  np.testing.assert_allclose(jax.vmap(grad)(kernels), loop, rtol=1e-4, atol=1e-5)


@quick
@pytest.mark.parametrize('method', METHODS)
def test_shard_map(method):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  x, kernel = normal(0, 8, 5, 4), normal(1, 3, 1, 4)
  p, q = jnp.array([0.5, 1.0, 2.5, 4.0]), jnp.float32(0.2)

  def loss(kernel, x):
    y = scs(x, kernel, p, q, feature_group_count=4, method=method)
    return (y * jnp.arange(1.0, 6.0)[:, None][None]).sum(), y

  def local(kernel, x):
    kernel = jax.lax.pcast(kernel, 'data', to='varying')
    (_, y), gradient = jax.value_and_grad(loss, has_aux=True)(kernel, x)
    return y, jax.lax.psum(gradient, 'data')

  sharded = jax.shard_map(local, mesh=mesh, in_specs=(P(), P('data')), out_specs=(P('data'), P()))
  y, gradient = jax.jit(sharded)(kernel, x)
  (_, y_all), gradient_all = jax.jit(jax.value_and_grad(loss, has_aux=True))(kernel, x)
  np.testing.assert_allclose(y, y_all, atol=1e-6)
  np.testing.assert_allclose(gradient, gradient_all, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_export_lowers_for_every_platform(method):
  x, kernel = jnp.ones((2, 5, 4)), jnp.ones((3, 1, 4))
  f = jax.jit(lambda x, k: scs(x, k, 2.5, 0.1, feature_group_count=4, method=method))
  exported = jax.export.export(f, platforms=['cpu', 'tpu', 'cuda'])(x, kernel)
  assert exported.platforms == ('cpu', 'tpu', 'cuda')
  assert exported.out_avals[0].shape == (2, 5, 4)


@pytest.mark.parametrize('shape', [((2, 7, 6, 8), (3, 3, 8, 5), 1), ((2, 7, 8), (3, 1, 16), 8)])
def test_auto_agrees_with_every_method(shape):
  x_shape, kernel_shape, groups = shape
  x, kernel = normal(0, *x_shape), normal(1, *kernel_shape)
  f = lambda method: scs(
    x, kernel, 2, 0.1, feature_group_count=groups, method=method, precision='highest'
  )
  auto = jax.jit(f, static_argnums=0)('auto')
  for method in METHODS[1:]:
    np.testing.assert_allclose(jax.jit(f, static_argnums=0)(method), auto, atol=2e-6)


# Bounds, scales and dtypes.


@hypothesis.settings(max_examples=25, derandomize=True, deadline=None, database=None)
@hypothesis.given(st.integers(0, 2**32 - 1), st.floats(0.1, 1000), st.sampled_from(METHODS))
def test_is_bounded(seed, p, method):
  """Every patch is also a kernel, so many similarities are 1 up to rounding."""
  x = normal(seed, 9, 2, 3) * 10.0 ** np.random.default_rng(seed).integers(-6, 6)
  x = x.at[1].set(-x[0])
  y = BOUNDED[method](x, jnp.moveaxis(x, 0, -1), jnp.float32(p))[:, 0]
  assert (jnp.abs(y) <= 1).all()
  np.testing.assert_allclose(jnp.diag(y), 1, rtol=1e-6 * (1 + p))
  np.testing.assert_allclose(y[0, 1], -1, rtol=1e-6 * (1 + p))


BOUNDED = {m: jax.jit(functools.partial(scs, padding='VALID', method=m)) for m in METHODS}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_is_bounded_for_static_p(dtype):
  x = normal(0, 16, 2, 3, dtype=dtype)
  kernel = jnp.moveaxis(x, 0, -1)
  f = lambda x, k: [scs(x, k, p, padding='VALID') for p in (1, 2, 2.5, 16, 20, 100)]
  for y in jax.jit(f)(x, kernel):
    assert (jnp.abs(y) <= 1).all()


@quick
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('factor', [1e3, 1e-3, 1e15, 1e-15])
def test_scale_does_not_matter_without_q(factor, method):
  x, kernel, p, _ = inputs()
  y = scs(x, kernel, p, 0.0, method=method, **GROUPED)
  for scales in ((factor, 1), (1, factor), (factor, factor)):
    scaled = scs(x * scales[0], kernel * scales[1], p, 0.0, method=method, **GROUPED)
    np.testing.assert_allclose(scaled, y, rtol=1e-4, atol=1e-5)


@quick
@pytest.mark.parametrize('method', PLAIN_METHODS)
@pytest.mark.parametrize('factor', [1e15, 1e-12])
def test_gradients_are_finite_at_extreme_scales(factor, method):
  x, kernel, p, _ = inputs()
  f = jax.jit(jax.grad(lambda *a: scs(*a, method=method, **GROUPED).sum(), argnums=(0, 1, 2, 3)))
  for gradient in f(x * factor, kernel * factor, p, jnp.float32(0)):
    assert jnp.isfinite(gradient).all()


@quick
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('p', [2, 2.5, 0.3])
def test_sign_of_kernel_is_sign_of_output(p, method):
  x, kernel, _, q = inputs()
  f = functools.partial(scs, p=p, q=q, method=method, **GROUPED)
  np.testing.assert_array_equal(f(x, -kernel), -f(x, kernel))
  np.testing.assert_array_equal(f(-x, kernel), -f(x, kernel))


@quick
@pytest.mark.parametrize('method', METHODS)
def test_float16_takes_raw_pixels(method):
  """A patch of 3·3·64 pixels has a squared norm of about 1e7; float16 ends at 65504."""
  random = np.random.default_rng(0)
  x = jnp.asarray(random.integers(0, 256, (1, 5, 5, 64)), jnp.float16)
  kernel = jnp.moveaxis(x[:, :3, :3], 0, -1)
  f = jax.jit(lambda x, k: scs(x, k, 2, method=method, padding='VALID'))
  y = f(x, kernel)
  assert y.dtype == jnp.float16
  c = oracles.cosine(x, kernel, padding='VALID')
  oracles.assert_sharpened(np.asarray(y), c, 2.0, 576 * np.finfo('float32').eps, 'float32')
  assert y[0, 0, 0, 0] == 1


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('kernel_dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_dtype_is_that_of_x(dtype, kernel_dtype, method):
  x, kernel, p, q = inputs(dtype=dtype)
  kernel = kernel.astype(kernel_dtype)
  f = lambda x, k, p, q: scs(x, k, p, q, method=method, **GROUPED)
  assert jax.eval_shape(f, x, kernel, p, q).dtype == dtype
  loss = lambda *a: f(*a).astype(jnp.float32).sum()
  gradients = jax.eval_shape(jax.grad(loss, argnums=(0, 1, 2, 3)), x, kernel, p, q)
  assert [g.dtype for g in gradients] == [dtype, kernel_dtype, 'float32', 'float32']


# Accepted arguments.


@quick
def test_arguments_may_be_numpy_lists_and_scalars():
  x, kernel = np.random.default_rng(0).normal(size=(2, 6, 4, 3)), normal(1, 3, 3, 1, 3)
  view = x.transpose(0, 2, 1, 3)[:, ::2]  # This view is not contiguous.
  y = scs(jnp.asarray(view), kernel, 2.0, 0.5, feature_group_count=3)
  assert y.shape == (2, 2, 6, 3)
  alike = [
    scs(view, kernel, 2.0, 0.5, feature_group_count=3),
    scs(view, np.asarray(kernel, 'float64'), 2.0, 0.5, feature_group_count=np.int64(3)),
    scs(view, kernel, np.float64(2), np.float32(0.5), feature_group_count=3),
    scs(view, kernel, [2.0, 2.0, 2.0], [0.5] * 3, feature_group_count=3),
    scs(view, kernel, 2, 0.5, feature_group_count=3, strides=[1, 1], padding=[1, (1, 1)]),
    scs(view, kernel, jnp.int32(2), jnp.bfloat16(0.5), feature_group_count=3),
  ]
  for other in alike:
    assert other.dtype == y.dtype
    np.testing.assert_allclose(other, y, atol=1e-6)
  np.testing.assert_array_equal(
    scs(view, kernel, True, feature_group_count=3), scs(view, kernel, 1, feature_group_count=3)
  )


@quick
def test_numpy_float64_scalar_p_does_not_promote():
  with jax.enable_x64(True):
    y = scs(normal(0, 1, 4, 2), normal(1, 2, 2, 2), np.float64(2.5), np.float64(0.1))
    assert y.dtype == 'float32'


@quick
@pytest.mark.parametrize('method', METHODS)
def test_shapes_at_the_edge(method):
  f = functools.partial(scs, method=method)

  def shape(x, kernel_shape, **arguments):
    return jax.eval_shape(lambda x, k: f(x, k, **arguments), x, jnp.ones(kernel_shape)).shape

  x = normal(0, 2, 5, 1, 4)
  assert shape(x[:1], (1, 1, 4, 1)) == (1, 5, 1, 1)
  assert shape(x, (2, 1, 4, 1), strides=4) == (2, 2, 1, 1)  # The stride exceeds the window.
  assert shape(x[..., :1], (3, 3, 1, 1)) == (2, 5, 1, 1)
  assert shape(x, (5, 1, 4, 1), padding='VALID') == (2, 1, 1, 1)
  for groups in (1, 4):
    kernel = jnp.ones((3, 1, 4 // groups, 4))
    empty = jax.jit(jax.grad(lambda k, g=groups: f(x[:0], k, feature_group_count=g).sum()))(kernel)
    assert (empty == 0).all()


def test_padding_is_zeros():
  x, kernel = normal(0, 1, 4, 5, 2), normal(1, 3, 3, 2, 3)
  padded = jnp.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0)))
  np.testing.assert_allclose(
    jax.jit(lambda x: scs(x, kernel, 2.5, padding=((1, 0), (2, 1))))(x),
    jax.jit(lambda x: scs(x, kernel, 2.5, padding='VALID'))(padded),
    atol=1e-6,
  )


# Refused arguments.

X, KERNEL = np.ones((2, 6, 6, 4), 'float32'), np.ones((3, 3, 4, 5), 'float32')


def bad(match, *, x=X, kernel=KERNEL, **arguments):
  return pytest.param(x, kernel, arguments, match, id=match[:40])


@pytest.mark.parametrize(
  ('x', 'kernel', 'arguments', 'match'),
  [
    bad('x must be floating, got dtype int32', x=X.astype('int32')),
    bad('x must be floating, got dtype complex64', x=X.astype('complex64')),
    bad('kernel must be floating, got dtype int32', kernel=KERNEL.astype('int32')),
    bad(r'x must be .* got shape \(6, 4\).*x\[None\]', x=X[0, 0]),
    bad(r'x must be .* got shape \(2, 6, 6, 1, 1, 4\)', x=X[:, :, :, None, None]),
    bad(r'kernel must be .* got shape \(3, 4, 5\)', kernel=KERNEL[0]),
    bad(r'kernel must be .* got shape \(\)', kernel=np.float32(1)),
    bad(r'kernel of shape \(3, 3, 3, 5\) takes 3 features', kernel=KERNEL[:, :, :3]),
    bad(r'kernel of shape \(3, 3, 4, 0\) holds no kernels', kernel=KERNEL[..., :0]),
    bad('feature_group_count 3 does not divide the 4 input', feature_group_count=3),
    bad('feature_group_count 2 does not divide the 5 kernels', feature_group_count=2),
    bad('feature_group_count must be a positive integer, got 0', feature_group_count=0),
    bad('feature_group_count must be a positive integer, got 2.0', feature_group_count=2.0),
    bad('p must be greater than 0 .*got 0', p=0),
    bad('p must be greater than 0 .*got -1.5', p=-1.5),
    bad('p must be greater than 0 .*got nan', p=float('nan')),
    bad('p must be .*finite, got inf', p=float('inf')),
    bad(r'p must be greater than 0 .*got \[ ?1', p=np.array([1.0, 2.0, 0.0, 1.0, 1.0])),
    bad('p must be greater than 0 .*got -2', p=jnp.float32(-2)),
    bad('p must be greater than 0', p=[1.0, 2.0, 3.0, 4.0, -5.0]),
    bad(r'p must be a scalar or \[5\].*got \(4,\)', p=np.ones(4)),
    bad(r'p must be a scalar or \[5\].*got \(1, 5\)', p=np.ones((1, 5))),
    bad('q must be at least 0 .*got -0.1', q=-0.1),
    bad('q must be at least 0 .*got -1', q=jnp.bfloat16(-1)),
    bad(r'q must be a scalar or \[5\].*got \(1,\)', q=np.ones(1)),
    bad('kernel_q must be at least 0 .*got -3', kernel_q=-3),
    bad(r'kernel_q must be a scalar or \[5\].*got \(2,\)', kernel_q=np.ones(2)),
    bad('strides must be at least 1 .*got 0', strides=0),
    bad(r'strides must be at least 1 .*got \(1, -1\)', strides=(1, -1)),
    bad(r'strides \(1,\) has 1 entries', strides=(1,)),
    bad('strides must be an integer .*got 1.5', strides=1.5),
    bad('kernel_dilation must be at least 1 .*got 0', kernel_dilation=0),
    bad(r'kernel_dilation \(1, 2, 1\) has 3 entries', kernel_dilation=(1, 2, 1)),
    bad("padding must be 'SAME', 'SAME_LOWER', 'VALID'.*got 'sam'", padding='sam'),
    bad("padding 'CAUSAL' needs one spatial dimension, the input has 2", padding='CAUSAL'),
    bad('padding -9 leaves nothing of images of size', padding=-9),
    bad('input_dilation must be at least 1 .*got 0', input_dilation=0),
    bad('center=True needs input_dilation=1, got 2', input_dilation=2, center=True),
    bad(r'mask must have the shape of the kernel.*got \(3, 3\)', mask=np.ones((3, 3))),
    bad('mask needs center=False', mask=np.ones(KERNEL.shape), center=True),
    bad(r'padding must be .*got \(1, 2, 3\)', padding=(1, 2, 3)),
    bad(r'padding must be .*got \(\(1, 2, 3\), 1\)', padding=((1, 2, 3), 1)),
    bad('padding must be .*got 1.5', padding=1.5),
    bad('padding must be .*got None', padding=None),
    bad(r'kernel window .*larger than the padded input \(2, 6\)', x=X[:, :2], padding='VALID'),
    bad(r'kernel window .*spans \(7, 7\)', padding='VALID', kernel_dilation=3),
    bad('kernel window must be at least 1', kernel=KERNEL[:0]),
    bad("unknown method 'convolutions'; did you mean 'convolution'", method='convolutions'),
    bad("unknown method 'Patches'; did you mean 'patches'", method='Patches'),
    bad('unknown method None', method=None),
  ],
)
def test_refuses(x, kernel, arguments, match):
  with pytest.raises(ValueError, match=match):
    scs(x, kernel, **arguments)


@pytest.mark.parametrize(
  'value', [-1.0, np.float32(-1), jnp.float32(-1), jnp.int32(-1), [-1.0] * 5]
)
def test_known_values_are_checked_under_jit_and_traced_ones_are_not(value):
  for name in ('p', 'q', 'kernel_q'):
    with pytest.raises(ValueError, match=f'^{name} must be'):
      jax.eval_shape(jax.jit(lambda x, name=name: scs(x, KERNEL, **{name: value})), X)
    jax.eval_shape(lambda v, name=name: scs(X, KERNEL, **{name: v}), value)


def test_a_list_may_mix_known_and_traced_values():
  y = jax.jit(lambda p: scs(X, KERNEL, [p, 1.0, 2.0, 3.0, 4.0]))(0.5)
  assert y.shape == (2, 6, 6, 5)


# In low precision, derivatives are recovered from the output.


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
@pytest.mark.parametrize('groups', [1, 2, 4])
def test_gradients_in_low_precision_are_those_of_float32(dtype, groups):
  x, kernel = normal(0, 2, 6, 5, 4, dtype=dtype), normal(1, 3, 3, 4 // groups, 8, dtype=dtype)
  p, q = jnp.linspace(0.5, 4.0, 8), jnp.asarray(0.1)
  cotangent = normal(2, 2, 6, 5, 8)

  def gradients(x, kernel):
    f = lambda *arguments: scs(*arguments, feature_group_count=groups)
    y, pullback = jax.vjp(f, x, kernel, p, q)
    return [y, *pullback(cotangent.astype(y.dtype))]

  low = gradients(x, kernel)
  high = gradients(x.astype(jnp.float32), kernel.astype(jnp.float32))
  for ours, expected in zip(low, high, strict=True):
    error = jnp.linalg.norm((ours.astype(jnp.float32) - expected).ravel())
    assert error < 0.02 * jnp.linalg.norm(expected.ravel())


def test_gradients_of_single_arguments_in_low_precision():
  x, kernel, p = normal(0, 2, 6, 5, 4, dtype='bfloat16'), normal(1, 3, 3, 4, 8), jnp.full(8, 2.0)
  f = lambda x, kernel, p: scs(x, kernel.astype(x.dtype), p).sum()
  together = jax.grad(f, (0, 1, 2))(x, kernel, p)
  alone = [jax.grad(f, i)(x, kernel, p) for i in range(3)]
  for ours, expected in zip(alone, together, strict=True):
    np.testing.assert_allclose(ours.astype('float32'), expected.astype('float32'), rtol=1e-2)


def test_low_precision_is_finite_at_zero_patches_and_kernels():
  x = normal(0, 1, 8, 8, 3, dtype='bfloat16').at[:, :5].set(0)
  kernel = normal(1, 3, 3, 3, 4, dtype='bfloat16').at[..., 0].set(0)
  f = lambda x, kernel, p: scs(x, kernel, p).astype(jnp.float32).sum()
  gradients = jax.grad(f, (0, 1, 2))
  with_curvature = jax.jit(lambda *at: jax.jvp(gradients, at, at))
  for p in (0.1, 1.0, 2.0, 20.0):
    for value in jax.tree.leaves(with_curvature(x, kernel, jnp.full(4, p))):
      assert jnp.isfinite(value).all(), p


# Centred patches and kernels.

CENTERED = {
  'dense': ((2, 6, 5, 3), (3, 3, 3, 4), {}),
  'grouped': ((2, 6, 5, 4), (3, 2, 2, 4), {'feature_group_count': 2, 'strides': 2}),
  'depthwise': ((2, 7, 4), (3, 1, 4), {'feature_group_count': 4, 'kernel_dilation': 2}),
  'pointwise': ((2, 3, 4), (1, 4, 2), {}),
}


def test_centred_by_hand():
  # Deviations of the patch: -1, 0, 1; of the kernels: -1, 2, -1 and -1, 0, 1.
  assert compare([7, 8, 9], [4, 7, 4], center=True) == pytest.approx(0, abs=1e-6)
  assert compare([7, 8, 9], [1, 2, 3], center=True) == pytest.approx(1)
  assert compare([7, 8, 9], [3, 2, 1], 2, center=True) == pytest.approx(-1)
  assert compare([7, 8, 9], [1, 2, 4], center=True) == pytest.approx(3 / 28**0.5 * 3**0.5)
  assert compare([7, 8, 9], [1, 2, 3], q=1, center=True) == pytest.approx(2 / (1 + 2**0.5) ** 2)


@pytest.mark.parametrize('name', CENTERED)
@pytest.mark.parametrize('method', ['auto', 'patches'])
def test_an_offset_changes_nothing_when_centred(name, method):
  shape, kernel_shape, arguments = CENTERED[name]
  x, kernel = normal(1, *shape), normal(2, *kernel_shape)
  f = jax.jit(functools.partial(scs, p=2.0, center=True, method=method, **arguments))
  expected = f(x, kernel)
  assert float(jnp.abs(expected).max()) > 0.3
  # float32 keeps the deviations from an offset of 1e4 to about 1e-3, half of its last digit.
  for offset, bound in ((1.0, 2e-6), (1e4, 5e-3)):
    np.testing.assert_allclose(f(x + offset, kernel), expected, atol=bound)
    np.testing.assert_allclose(f(x, kernel + 10), expected, atol=2e-5)
  with jax.enable_x64(True):  # What float32 stores is compared without a further loss.
    exact = oracles.cosine(x + np.float32(1e4), kernel, center=True, **arguments)
  np.testing.assert_allclose(f(x + 1e4, kernel), np.sign(exact) * exact**2, atol=2e-5)


@pytest.mark.parametrize('power', [-20, 10])
def test_a_power_of_two_changes_no_bit_without_q(power):
  for name, (shape, kernel_shape, arguments) in CENTERED.items():
    x, kernel = normal(1, *shape), normal(2, *kernel_shape)
    for center in (False, True):
      f = jax.jit(functools.partial(scs, center=center, **arguments))
      y = f(x, kernel, jnp.full(kernel_shape[-1], 1.7))
      same = f(x * 2.0**power, kernel, jnp.full(kernel_shape[-1], 1.7))
      np.testing.assert_array_equal(y, same, err_msg=name)


@pytest.mark.parametrize('value', [0.0, 0.3, -7e4, 1e30, 1e-30])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_flat_patches_give_zero_when_centred(value, dtype):
  x = jnp.full((1, 6, 6, 3), value, dtype)
  kernel = normal(2, 3, 3, 3, 4).astype(dtype)
  f = lambda x, kernel: scs(x, kernel, 0.7, center=True)
  np.testing.assert_array_equal(jax.jit(f)(x, kernel), 0)
  gradients = jax.jit(jax.grad(lambda *a: f(*a).astype('float32').sum(), (0, 1)))(x, kernel)
  assert all(bool(jnp.isfinite(g).all()) for g in gradients)


@quick
@pytest.mark.parametrize('name', ['dense', 'depthwise'])
def test_derivatives_when_centred(name):
  shape, kernel_shape, arguments = DERIVATIVES[name]
  check_derivatives('auto', shape, kernel_shape, center=True, **arguments)


def test_center_needs_two_values_in_a_patch():
  with pytest.raises(ValueError, match=r'center=True needs at least two values in a patch'):
    scs(jnp.ones((1, 4, 3)), jnp.ones((1, 1, 3)), feature_group_count=3, center=True)


def test_flat_parts_and_flat_kernels_give_zero_when_centred():
  x = normal(1, 2, 9, 9, 3).at[:, 2:7].set(0.1)  # Means of 0.1 round, so sums of them would not do.
  kernel = normal(2, 3, 3, 3, 4).at[..., 0].set(0.7)
  for method in ('auto', 'patches'):
    f = functools.partial(scs, p=0.7, center=True, method=method)
    y, pullback = jax.vjp(jax.jit(f), x, kernel)
    np.testing.assert_array_equal(y[:, 3:6, 1:-1], 0)  # the others see the border
    np.testing.assert_array_equal(y[..., 0], 0)
    assert all(bool(jnp.isfinite(g).all()) for g in pullback(jnp.ones_like(y)))


def test_one_bright_pixel_costs_the_others_no_accuracy_when_centred():
  x, kernel = normal(1, 1, 8, 8, 2), normal(2, 3, 3, 2, 4)
  for place in ((0, 0, 0, 0), (0, 4, 4, 1)):
    hot = x.at[place].set(1000)
    with jax.enable_x64(True):
      exact = oracles.cosine(hot, kernel, center=True)
    np.testing.assert_allclose(scs(hot, kernel, center=True), exact, atol=2e-5)


def test_half_floats_near_the_end_of_their_range_when_centred():
  x = 3e4 * jnp.sign(normal(1, 1, 6, 6, 2)).astype('float16') + 3e4  # 0 and 60000
  kernel = normal(2, 3, 3, 2, 4, dtype='float16')
  with jax.enable_x64(True):
    exact = oracles.cosine(x.astype('float64'), kernel.astype('float64'), center=True)
  np.testing.assert_allclose(scs(x, kernel, center=True), exact, atol=2e-3)


# Norms whose squares are not in the range of float32.

SIZES = [(1e20, 1e-30), (1e-30, 1e20), (1e20, 1e20), (1e-30, 1e-30), (1e30, 1e-30), (1e-30, 1e30)]


@pytest.mark.parametrize('center', [False, True])
@pytest.mark.parametrize('method', ['auto', 'patches'])
def test_norms_of_any_size(method, center):
  for shape, kernel_shape, arguments in CENTERED.values():
    x, kernel = normal(1, *shape).at[0, :2].set(0), normal(2, *kernel_shape)

    @jax.jit
    def both(x, kernel, arguments=arguments):
      f = lambda *a: scs(*a, 2.0, center=center, method=method, **arguments)
      y, pullback = jax.vjp(f, x, kernel)
      return y, pullback(jnp.ones_like(y))

    y, (in_x, in_kernel) = both(x, kernel)
    for of_x, of_kernel in SIZES:
      big, (in_big, in_big_kernel) = both(x * of_x, kernel * of_kernel)
      np.testing.assert_allclose(big, y, atol=1e-5)
      for found, size, wanted in ((in_big, of_x, in_x), (in_big_kernel, of_kernel, in_kernel)):
        found = np.asarray(found, 'float64') * size  # The gradient is as small as the value is big.
        np.testing.assert_allclose(found, wanted, atol=2e-5 * float(jnp.abs(wanted).max()))


def test_groups_and_images_of_different_sizes():
  x, kernel = normal(1, 2, 6, 5, 4), normal(2, 3, 3, 2, 4)
  sizes = jnp.array([[1e20, 1e20, 1e-30, 1e-30], [1e-12, 1e-12, 1e12, 1e12]])
  for center in (False, True):
    f = jax.jit(functools.partial(scs, center=center, feature_group_count=2))
    y = f(x, kernel)
    for size in (1e-33, 1e36):
      np.testing.assert_allclose(f(x * size, kernel), y, atol=1e-5)
    np.testing.assert_allclose(f(x * sizes[:, None, None], kernel), y, atol=1e-5)


def test_small_and_large_norms_add_q():
  x, kernel = normal(1, 1, 5, 5, 2), normal(2, 3, 3, 2, 4)
  for center in (False, True):
    f = jax.jit(functools.partial(scs, kernel_q=0.0, center=center))
    y = f(x, kernel, 1.0, 0.5)
    for size in (2.0**66, 2.0**-99):
      np.testing.assert_allclose(f(x * size, kernel, 1.0, 0.5 * size), y, atol=1e-6)
    tiny = f(x * 1e-35, kernel, 1.0, 10.0)
    np.testing.assert_allclose(tiny, 0, atol=1e-30)  # and not infinity times 0


@pytest.mark.parametrize('center', [False, True])
def test_float16_has_finite_gradients_at_zero_patches(center):
  x = normal(0, 1, 8, 8, 3, dtype='float16').at[:, :5].set(0)
  kernel = normal(1, 3, 3, 3, 4, dtype='float16').at[..., 0].set(0)

  @jax.jit
  def gradients(x, kernel, p, q):
    f = lambda *a: scs(*a, center=center).astype(jnp.float32).sum()
    return jax.grad(f, (0, 1, 2, 3))(x, kernel, p, q)

  for p in (0.05, 0.5, 1.0, 20.0):
    for q in (0.0, 1e-3, 0.1):
      for image in (x, x * 1e-4, jnp.zeros_like(x)):
        for leaf in gradients(image, kernel, jnp.full(4, p), jnp.float32(q)):
          assert jnp.isfinite(leaf).all(), (p, q)
  static = jax.grad(lambda x: scs(x, kernel, 0.3, 1e-3, center=center).astype('float32').sum())(x)
  assert jnp.isfinite(static).all()
