"""Attacks stay within their bounds, and use images that both networks classify right."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.attacks import attack, measure


def test_attacks_climb_and_stay_within_their_bounds():
  x = jax.random.uniform(jax.random.key(0), (64, 2, 2, 1), minval=0.4, maxval=0.6)
  flat = lambda x: x.reshape(len(x), -1).sum(1)
  model = lambda x: jnp.stack([10 * flat(x), jnp.full(len(x), 20.0)], -1)
  labels = model(x).argmax(-1)
  for norm, size in (('linf', 0.1), ('l2', 0.2)):
    for steps in (1, 5):
      worst, losses = attack(
        model, x, labels, jax.random.key(1), norm=norm, size=size, steps=steps, restarts=2
      )
      change = (worst - x).reshape(len(x), -1)
      length = jnp.linalg.norm(change, jnp.inf if norm == 'linf' else 2, axis=1)
      np.testing.assert_array_less(length, size * 1.0001)
      assert (worst >= 0).all()
      assert (worst <= 1).all()
      assert losses[-1] > losses[0]
      assert (model(worst).argmax(-1) == labels).mean() < 0.7


def test_only_images_that_both_networks_classify_right_are_attacked():
  x = jnp.array([0.2, 0.4, 0.6, 0.8]).reshape(4, 1, 1, 1)
  below, above = (  # what is of class 0
    lambda x: jnp.stack([0.5 - x[:, 0, 0, 0], jnp.zeros(len(x))], -1),
    lambda x: jnp.stack([x[:, 0, 0, 0] - 0.3, jnp.zeros(len(x))], -1),
  )
  pair = {'below': below, 'above': above}
  shares, _ = measure(pair, x, jnp.zeros(4, int), jax.random.key(0))
  assert shares['all test images'] == {'below': 0.5, 'above': 0.75}
  assert shares['check: noise of ℓ∞ 4/255'] == {'below': 1.0, 'above': 1.0}  # of 0.4 alone
  assert shares['check: PGD without a bound'] == {'below': 0.0, 'above': 0.0}
