"""Sharpened cosine attention: comparison with a NumPy loop, bounds, derivatives and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scs_jax

pytestmark = pytest.mark.usefixtures('quick_compilation')


def draw(batch=2, tokens=5, keys=4, heads=3, depth=6, features=2, dtype=jnp.float32):
  shapes = [(batch, n, heads, d) for n, d in ((tokens, depth), (keys, depth), (keys, features))]
  return [
    jax.random.normal(key, shape, dtype)
    for key, shape in zip(jax.random.split(jax.random.key(0), 3), shapes, strict=True)
  ]


def test_equals_a_loop():
  query, key, value = (np.asarray(x, np.float64) for x in draw())
  p, q = np.array([1.0, 2.0, 3.5]), 0.1
  expected = np.zeros((2, 5, 3, 2))
  for b, i, h in np.ndindex(2, 5, 3):
    weights = []
    for j in range(4):
      s, k = query[b, i, h], key[b, j, h]
      c = s @ k / ((np.linalg.norm(s) + q) * (np.linalg.norm(k) + q))
      weights.append(np.sign(c) * abs(c) ** p[h])
    weights = np.array(weights) / np.abs(weights).sum()
    expected[b, i, h] = weights @ value[b, :, h]
  y = scs_jax.sharpened_cosine_attention(*draw(), p, q)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('p', [0.5, 1.0, 50.0])
def test_is_bounded_by_the_values_and_differentiable(p, dtype):
  query, key, value = draw(dtype=jnp.dtype(dtype))
  value = jnp.clip(value, -1, 1)
  function = lambda *a: scs_jax.sharpened_cosine_attention(*a, p).astype(jnp.float32)
  assert jnp.abs(function(query, key, value)).max() <= 1.02
  gradients = jax.grad(lambda *a: function(*a).sum(), argnums=(0, 1, 2))(query, key, value)
  assert all(np.isfinite(g).all() for g in gradients)


def test_a_query_of_zeros_gets_zero_and_the_opposite_key_subtracts():
  query = jnp.array([0.0, 0.0, 1.0, 0.0]).reshape(1, 2, 1, 2)
  key = jnp.array([-1.0, 0.0]).reshape(1, 1, 1, 2)
  y = scs_jax.sharpened_cosine_attention(query, key, jnp.full((1, 1, 1, 1), 3.0))
  np.testing.assert_allclose(y.ravel(), [0.0, -3.0], atol=1e-6)
  gradient = jax.grad(lambda k: scs_jax.sharpened_cosine_attention(query, k, key).sum())(key)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize('size', [1e20, 1e-30])
def test_tokens_of_any_size(size):
  query, key, value = draw()

  @jax.jit
  def both(query, key):
    f = lambda query, key: scs_jax.sharpened_cosine_attention(query, key, value)
    y, pullback = jax.vjp(f, query, key)
    return y, pullback(jnp.ones_like(y))

  y, gradients = both(query, key)
  found, in_tokens = both(query * size, key * size)
  np.testing.assert_allclose(found, y, atol=1e-5)
  for ours, expected in zip(in_tokens, gradients, strict=True):
    np.testing.assert_allclose(np.asarray(ours, 'float64') * size, expected, atol=1e-4)


def test_float16_has_finite_gradients_at_tokens_of_zeros():
  query, key, value = draw(dtype=jnp.float16)
  query = query.at[:, :3].set(0)
  f = lambda *a: scs_jax.sharpened_cosine_attention(*a, 0.1, 1e-3).astype(jnp.float32).sum()
  for gradient in jax.jit(jax.grad(f, (0, 1, 2)))(query, key, value):
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'key': (2, 4, 3, 5)}, 'key must be'),
    ({'value': (2, 5, 3, 2)}, 'value must have'),
    ({'query': (6, 3)}, 'query must be'),
    ({'p': -1.0}, 'p must be'),
    ({'q': -1.0}, 'q must be'),
  ],
)
def test_refuses(change, message):
  values = dict(zip(('query', 'key', 'value'), draw(), strict=True))
  values |= {k: jnp.ones(v) if isinstance(v, tuple) else v for k, v in change.items()}
  with pytest.raises(ValueError, match=message):
    scs_jax.sharpened_cosine_attention(**values)
