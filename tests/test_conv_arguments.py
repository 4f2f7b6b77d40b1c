"""Arguments of `flax.nnx.Conv`: its shapes, and the values of loops over padded images."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import nnx as flax_nnx

import scs_jax
from scs_jax import linen, nnx

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 6, 7, 4)).astype('float32')
KERNEL = RANDOM.normal(size=(3, 2, 4, 6)).astype('float32')
MASK = (RANDOM.random((3, 2, 2, 6)) > 0.4).astype('float32')
GROUPED = RANDOM.normal(size=MASK.shape).astype('float32')

PADDINGS = [
  'SAME_LOWER',
  'CIRCULAR',
  'REFLECT',
  ((-1, 2), (0, -1)),
  (1, 2),
  [(0, 1), 2],
  -1,
]


@pytest.mark.parametrize('padding', PADDINGS, ids=str)
def test_shapes_are_those_of_conv(padding):
  for change in ({}, {'strides': 2, 'feature_group_count': 2}, {'kernel_dilation': 2}):
    options = {'padding': padding, 'strides': None, **change}
    if padding == -1 and 'kernel_dilation' in change:
      continue  # The window does not fit: Conv gives no positions, SCS refuses.
    conv = flax_nnx.Conv(4, 6, (3, 2), use_bias=False, rngs=flax_nnx.Rngs(0), **options)
    ours = nnx.SharpenedCosineSimilarity(4, 6, (3, 2), rngs=flax_nnx.Rngs(0), **options)
    theirs = linen.SharpenedCosineSimilarity(6, (3, 2), **options)
    shape = jax.eval_shape(conv, X).shape
    assert jax.eval_shape(ours, X).shape == shape
    assert jax.eval_shape(theirs.init_with_output, jax.random.key(0), X)[0].shape == shape


def test_input_dilation_has_the_shape_of_conv():
  options = {'padding': ((1, 2), (0, 3)), 'input_dilation': (2, 3)}
  conv = flax_nnx.Conv(4, 6, (3, 2), rngs=flax_nnx.Rngs(0), **options)
  ours = nnx.SharpenedCosineSimilarity(4, 6, (3, 2), rngs=flax_nnx.Rngs(0), **options)
  assert jax.eval_shape(ours, X).shape == jax.eval_shape(conv, X).shape


def spread(x, *steps):
  sizes = [(n - 1) * step + 1 for n, step in zip(x.shape[1:-1], steps, strict=True)]
  wide = np.zeros((len(x), *sizes, x.shape[-1]))
  wide[(slice(None), *(slice(None, None, step) for step in steps))] = x
  return wide


PADDED = {
  'circular': np.pad(X, ((0, 0), (1, 1), (0, 1), (0, 0)), mode='wrap'),
  'Reflect': np.pad(X, ((0, 0), (1, 1), (0, 1), (0, 0)), mode='reflect'),
  ((-1, 2), (0, -1)): np.pad(X, ((0, 0), (0, 2), (0, 0), (0, 0)))[:, 1:, :-1],
}


@pytest.mark.parametrize('padding', PADDED, ids=str)
@pytest.mark.parametrize('function', ['sharpened_cosine_similarity', 'b_cos'])
def test_borders(padding, function):
  y = getattr(scs_jax, function)(X, KERNEL, 1.5, 0.1, padding=padding)
  plain = getattr(scs_jax, function)(PADDED[padding], KERNEL, 1.5, 0.1, padding='VALID')
  np.testing.assert_allclose(y, plain, atol=1e-6)
  if function == 'sharpened_cosine_similarity':
    c = oracles.cosine(PADDED[padding], KERNEL, 0.1, padding='VALID')
    np.testing.assert_allclose(y, oracles.equation(c, 1.5), atol=1e-6)


def test_pixels_are_spread():
  y = scs_jax.sharpened_cosine_similarity(X, KERNEL, 1.5, 0.1, padding='VALID', input_dilation=2)
  c = oracles.cosine(spread(X, 2, 2), KERNEL, 0.1, padding='VALID')
  np.testing.assert_allclose(y, oracles.equation(c, 1.5), atol=1e-6)


def test_a_causal_layer_sees_the_past_only():
  layer = nnx.SharpenedCosineSimilarity(4, 6, 3, padding='causal', rngs=flax_nnx.Rngs(0))
  series = jnp.asarray(X[:, 0])
  y, later = layer(series), layer(series.at[:, 4:].set(9))
  assert y.shape == (2, 7, 6)
  np.testing.assert_array_equal(y[:, :4], later[:, :4])
  assert (y[:, 4:] != later[:, 4:]).any()


def masked(x, kernel, mask, p, q, groups):
  y = np.zeros((len(x), x.shape[1] - 2, x.shape[2] - 1, kernel.shape[-1]))
  for n, i, j, o in np.ndindex(y.shape):
    first = o // (kernel.shape[-1] // groups) * kernel.shape[2]
    seen = mask[..., o] > 0
    s = x[n, i : i + 3, j : j + 2, first : first + kernel.shape[2]][seen].astype('float64')
    k = kernel[..., o][seen].astype('float64')
    y[n, i, j, o] = s @ k / ((np.linalg.norm(s) + q) * (np.linalg.norm(k) + q))
  return oracles.equation(y, p)


@pytest.mark.parametrize('method', ['auto', 'patches'])
def test_a_kernel_is_compared_with_what_it_sees(method):
  options = {'padding': 'VALID', 'feature_group_count': 2, 'mask': MASK, 'method': method}
  f = lambda x, k: scs_jax.sharpened_cosine_similarity(x, k, 1.5, 0.1, **options)
  expected = masked(X, GROUPED, MASK, 1.5, 0.1, 2)
  np.testing.assert_allclose(f(X, GROUPED), expected, atol=1e-6)
  zeros = jax.grad(lambda x, k: f(x, k).sum(), (0, 1))(0 * X, GROUPED)
  assert all(jnp.isfinite(v).all() for v in zeros)


def test_layers_take_a_mask():
  layer = nnx.SharpenedCosineSimilarity(
    4, 6, (3, 2), padding='VALID', feature_group_count=2, mask=MASK, rngs=flax_nnx.Rngs(0)
  )
  p, q = 2.0, float(layer.q)
  expected = masked(X, np.asarray(layer.kernel[...]), MASK, p, q, 2)
  np.testing.assert_allclose(jax.jit(lambda x: layer(x))(X), expected, atol=1e-5)
  hidden = layer.kernel[...] * (1 - MASK)
  layer.kernel[...] += 5 * hidden
  np.testing.assert_allclose(layer(X), expected, atol=1e-5)


def test_dtype_of_the_result():
  x, kernel = X.astype('bfloat16'), KERNEL.astype('bfloat16')
  for function in (scs_jax.sharpened_cosine_similarity, scs_jax.b_cos):
    y = function(x, kernel, preferred_element_type='float32')
    assert (y.dtype, function(x, kernel).dtype) == (jnp.float32, jnp.bfloat16)
  layer = nnx.SharpenedCosineSimilarity(
    4, 6, (3, 2), dtype='bfloat16', preferred_element_type='float32', rngs=flax_nnx.Rngs(0)
  )
  assert layer(X).dtype == jnp.float32


def test_metadata_and_promotion_are_those_of_conv():
  calls = []

  def promote(arrays, *, dtype):
    calls.append(dtype)
    return tuple(None if a is None else jnp.asarray(a, 'float16') for a in arrays)

  layer = nnx.SharpenedCosineSimilarity(
    4, 6, (3, 2), promote_dtype=promote, kernel_metadata={'tag': 'first'}, rngs=flax_nnx.Rngs(0)
  )
  assert layer(X).dtype == jnp.float16
  assert calls == [None]
  assert layer.kernel.tag == 'first'


def test_out_sharding_on_a_mesh_with_explicit_axes():
  axes = (jax.sharding.AxisType.Explicit,)
  with jax.set_mesh(jax.make_mesh((2,), ('data',), axis_types=axes)):
    layer = nnx.SharpenedCosineSimilarity(4, 6, (3, 2), rngs=flax_nnx.Rngs(0))
    y = layer(jax.device_put(X, jax.P('data')), out_sharding=jax.P('data'))
    assert jax.typeof(y).sharding.spec[0] == 'data'
