"""B-cos, compared with its parts, and the output modes of the layers."""

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scs_jax


def test_with_b_1_it_is_a_convolution_with_kernels_of_norm_1():
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 6))
  unit = kernel / jnp.sqrt(jnp.square(kernel).sum((0, 1, 2), keepdims=True))
  expected = jax.lax.conv_general_dilated(
    x,
    unit,
    (2, 2),
    'SAME',
    feature_group_count=2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision='highest',
  )
  y = scs_jax.b_cos(x, kernel, 1.0, strides=2, feature_group_count=2, precision='highest')
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('factor', [0.01, 30.0])
def test_is_linear_in_the_length_of_the_patch(factor):
  x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
  y = scs_jax.b_cos(x, kernel, 2.5)
  np.testing.assert_allclose(scs_jax.b_cos(factor * x, kernel, 2.5), factor * y, rtol=1e-4)
  assert jnp.abs(y).max() > 1


@pytest.mark.parametrize('center', [False, True])
def test_any_size_of_image(center):
  x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
  f = jax.jit(lambda x, kernel: scs_jax.b_cos(x, kernel, 2.5, center=center))
  y = f(x, kernel)
  for size in (1e20, 1e-30):
    np.testing.assert_allclose(f(size * x, size * kernel) / size, y, atol=1e-4)


def test_centred_it_is_blind_to_the_offset():
  x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
  y = scs_jax.b_cos(x, kernel, 1.0, center=True, padding='VALID')
  unit = kernel - kernel.mean((0, 1, 2), keepdims=True)
  unit = unit / jnp.sqrt(jnp.square(unit).sum((0, 1, 2), keepdims=True))
  expected = jax.lax.conv_general_dilated(
    x, unit, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest'
  )
  np.testing.assert_allclose(y, expected, atol=1e-5)
  shifted = scs_jax.b_cos(x + 100, kernel, 1.0, center=True, padding='VALID')
  np.testing.assert_allclose(shifted, expected, atol=1e-4)


@pytest.mark.parametrize('rank', [1, 2, 3])
def test_layers_offer_every_output(rank):
  x = jax.random.normal(jax.random.key(0), (2, *(6,) * rank, 3))
  outputs = {}
  for output in ('bounded', 'unit', 'b_cos'):
    layer = scs_jax.nnx.SharpenedCosineSimilarity(
      3, 4, (3,) * rank, output=output, q_mode='fixed', q_init=0.0, rngs=flax.nnx.Rngs(0)
    )
    outputs[output] = layer(x)
    twin = scs_jax.linen.SharpenedCosineSimilarity(
      4, (3,) * rank, output=output, q_mode='fixed', q_init=0.0
    )
    params = {'kernel': layer.kernel[...], 'raw_p': layer.raw_p[...]}
    np.testing.assert_allclose(twin.apply({'params': params}, x), outputs[output], rtol=1e-6)
  np.testing.assert_allclose(
    outputs['unit'], 3 ** (rank + 1) * outputs['bounded'], rtol=1e-5, atol=1e-6
  )
  expected = scs_jax.b_cos(x, layer.kernel[...], 2.0)
  np.testing.assert_allclose(outputs['b_cos'], expected, rtol=1e-5, atol=1e-6)


def test_error_for_an_unknown_output_suggests_the_nearest():
  with pytest.raises(ValueError, match="'boundet'; did you mean 'bounded'"):
    scs_jax.nnx.SharpenedCosineSimilarity(3, 4, (3,), output='boundet', rngs=flax.nnx.Rngs(0))
