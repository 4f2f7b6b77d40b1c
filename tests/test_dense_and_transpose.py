"""The layers without a window, and those that enlarge: each against a loop over its equation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import nnx as flax_nnx
from jax import lax

import scs_jax
from scs_jax import linen, nnx

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(3, 5, 8)).astype('float32')
WEIGHTS = RANDOM.normal(size=(8, 4)).astype('float32')
CODE = RANDOM.normal(size=(2, 3, 4, 2)).astype('float32')


def lengths(v, axis):
  return np.linalg.norm(v.astype('float64'), axis=axis, keepdims=True)


@pytest.mark.parametrize('center', [False, True])
def test_dense_is_the_equation(center):
  x, k = VECTORS.astype('float64'), WEIGHTS.astype('float64')
  if center:
    x, k = x - x.mean(-1, keepdims=True), k - k.mean(0)
  c = x @ k / ((lengths(x, -1) + 0.1) * (lengths(k, 0) + 0.2))
  y = scs_jax.sharpened_cosine_dense(VECTORS, WEIGHTS, 1.5, 0.1, kernel_q=0.2, center=center)
  np.testing.assert_allclose(y, oracles.equation(c, 1.5), atol=1e-6)


def test_dense_takes_any_batch_and_refuses_other_shapes():
  f = scs_jax.sharpened_cosine_dense
  for shape in ((8,), (0, 8), (2, 1, 3, 8)):
    assert f(jnp.ones(shape), WEIGHTS).shape == (*shape[:-1], 4)
  with pytest.raises(ValueError, match=r'x must be .*got shapes \(\) and \(8, 4\)'):
    f(1.0, WEIGHTS)
  with pytest.raises(ValueError, match='kernel'):
    f(jnp.ones(7), WEIGHTS)


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'center': True, 'scale_init': 3.0},
    {'feature_group_count': 2, 'share_kernels': True},
    {'output': 'b_cos'},
    {'output': 'unit', 'mask': None},
  ],
  ids=str,
)
def test_dense_layers_agree_with_a_pointwise_layer(options):
  ours = nnx.SharpenedCosineDense(8, 4, rngs=flax_nnx.Rngs(0), **options)
  wide = nnx.SharpenedCosineSimilarity(8, 4, 1, rngs=flax_nnx.Rngs(0), **options)
  wide.kernel[...] = ours.kernel[...][None]
  y = ours(VECTORS)
  np.testing.assert_allclose(y, wide(VECTORS[:, :, None])[:, :, 0], atol=1e-6)
  theirs = linen.SharpenedCosineDense(4, **options)
  variables = {'params': flax_nnx.to_pure_dict(flax_nnx.state(ours, flax_nnx.Param))}
  np.testing.assert_allclose(theirs.apply(variables, VECTORS), y, atol=1e-6)
  assert jax.eval_shape(theirs.init, jax.random.key(0), VECTORS)['params'].keys() == (
    variables['params'].keys()
  )


def transposed(x, kernel, p, q, strides, low, shape, dilation):
  """A loop over output positions, and over the pixels and weights that meet there."""
  y = np.zeros((len(x), *shape, kernel.shape[-1]))
  for n, *position, o in np.ndindex(y.shape):
    pixels, weights = [], []
    for tap in np.ndindex(kernel.shape[:2]):
      place = [a + t * dilation - b for a, t, b in zip(position, tap, low, strict=True)]
      if any(a % stride for a, stride in zip(place, strides, strict=True)):
        continue  # It lies between the pixels.
      place = [a // stride for a, stride in zip(place, strides, strict=True)]
      inside = all(0 <= a < size for a, size in zip(place, x.shape[1:3], strict=True))
      pixels.append(x[(n, *place)] if inside else np.zeros(x.shape[-1]))
      weights.append(kernel[(*tap, slice(None), o)])
    s, k = np.array(pixels, 'float64').ravel(), np.array(weights, 'float64').ravel()
    length = (np.linalg.norm(s) + q) * (np.linalg.norm(k) + q)
    y[(n, *position, o)] = s @ k / length if length else 0
  return oracles.equation(y, p)


CASES = list(
  itertools.product([(3, 3), (2, 4), (1, 1)], [(1, 1), (2, 3), (3, 1)], ['SAME', 'VALID'], [1, 2])
)


@pytest.mark.parametrize(('window', 'strides', 'padding', 'dilation'), CASES[::3])
def test_transpose_is_a_comparison_of_what_meets(window, strides, padding, dilation):
  kernel = RANDOM.normal(size=(*window, 2, 3)).astype('float32')
  both = (dilation, dilation)
  shape = lax.conv_transpose(
    CODE, kernel, strides, padding, both, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  ).shape
  y = scs_jax.sharpened_cosine_transpose(
    CODE, kernel, 1.5, 0.1, strides=strides, padding=padding.lower(), kernel_dilation=dilation
  )
  assert y.shape == shape
  # Where conv_transpose puts one pixel tells its padding.
  first = lax.conv_transpose(
    np.pad(np.ones((1, 1, 1, 1), 'float32'), ((0, 0), (0, 2), (0, 3), (0, 0))),
    np.arange(1.0, 1 + np.prod(window), dtype='float32').reshape(*window, 1, 1),
    strides,
    padding,
    both,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )[0, :, :, 0]
  row, column = np.argwhere(np.asarray(first))[0]
  tap = np.unravel_index(int(first[row, column]) - 1, window)
  low = (row + tap[0] * dilation, column + tap[1] * dilation)
  expected = transposed(CODE, kernel, 1.5, 0.1, strides, low, shape[1:3], dilation)
  np.testing.assert_allclose(y, expected, atol=1e-6)


def test_transposed_layers_have_the_shape_of_flax_and_agree():
  for options in ({}, {'strides': 2, 'scale_init': 2.0}, {'strides': (1, 3), 'padding': 1}):
    ours = nnx.SharpenedCosineTranspose(2, 5, (3, 3), rngs=flax_nnx.Rngs(0), **options)
    shape = {name: options[name] for name in options if name != 'scale_init'}
    conv = flax_nnx.ConvTranspose(2, 5, (3, 3), rngs=flax_nnx.Rngs(0), **shape)
    y = ours(CODE)
    assert y.shape == jax.eval_shape(conv, CODE).shape
    assert ours(CODE[0]).shape == y.shape[1:]
    theirs = linen.SharpenedCosineTranspose(5, (3, 3), **options)
    variables = {'params': flax_nnx.to_pure_dict(flax_nnx.state(ours, flax_nnx.Param))}
    np.testing.assert_allclose(theirs.apply(variables, CODE), y, atol=1e-6)


def test_transposes_of_any_size_have_finite_gradients():
  kernel = RANDOM.normal(size=(3, 3, 2, 3)).astype('float32')
  f = lambda x, k: scs_jax.sharpened_cosine_transpose(x, k, 1.5, strides=2)
  y = f(CODE, kernel)
  np.testing.assert_allclose(f(CODE * 1e20, kernel * 1e-30), y, atol=1e-5)
  gradients = jax.grad(lambda x, k: f(x, k).sum(), (0, 1))(CODE.copy() * 0, kernel)
  assert all(jnp.isfinite(v).all() for v in gradients)


@pytest.mark.parametrize(
  ('options', 'match'),
  [
    ({'center': True}, 'center has no meaning in a transposed layer and must be False, got True'),
    ({'feature_group_count': 2}, 'feature_group_count has no meaning .* got 2'),
    ({'use_bias': True}, 'use_bias must be False'),
    ({'mask': np.ones((3, 3, 2, 4))}, 'mask has no meaning in a transposed layer'),
    ({'padding': 'CIRCULAR'}, "padding must be 'SAME', 'VALID'.*got 'CIRCULAR'"),
  ],
)
def test_transposed_layers_refuse(options, match):
  with pytest.raises(ValueError, match=match):
    nnx.SharpenedCosineTranspose(2, 4, (3, 3), rngs=flax_nnx.Rngs(0), **options)(CODE)
  with pytest.raises(ValueError, match=match):
    linen.SharpenedCosineTranspose(4, (3, 3), **options).init(jax.random.key(0), CODE)
