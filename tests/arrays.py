"""Random arrays for tests."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed: int, *shape: int, dtype: str = 'float32') -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)
