import jax.numpy as jnp
import numpy as np
import pytest

from scs_jax.train import losses, metrics


def test_cross_entropy_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
  labels = jnp.array([0, 1])
  np.testing.assert_allclose(
    losses.cross_entropy(logits, labels), [np.log(2), np.log(10)], rtol=1e-6
  )
  smooth = losses.cross_entropy(logits, labels, label_smoothing=0.3)
  by_hand = 0.8 * np.log(2) + 0.2 * np.log(4)  # targets 0.8, 0.1, 0.1
  assert smooth[0] == pytest.approx(by_hand, rel=1e-6)


def test_cross_entropy_of_large_bfloat16_logits_is_finite():
  loss = losses.cross_entropy(jnp.array([[3e4, -3e4]], jnp.bfloat16), jnp.array([1]))
  assert loss.dtype == jnp.float32
  assert np.isfinite(loss).all()


def test_padding_does_not_count_whatever_it_holds():
  values = {'loss': jnp.array([1.0, 3.0, jnp.nan]), 'accuracy': jnp.array([1.0, 0.0, jnp.inf])}
  sums = metrics.weighted_sums(values, jnp.array([1.0, 1.0, 0.0]))
  assert metrics.means(sums) == {'loss': 2.0, 'accuracy': 0.5}


def test_correct_counts_the_largest_logit():
  logits = jnp.array([[0.0, 2.0], [3.0, 1.0]])
  np.testing.assert_array_equal(losses.correct(logits, jnp.array([1, 1])), [1.0, 0.0])
