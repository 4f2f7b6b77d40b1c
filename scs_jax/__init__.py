"""Sharpened cosine similarity in JAX: primitives and Flax layers.

The ops are plain functions on arrays; `scs_jax.nnx` and `scs_jax.linen` wrap them as layers. The
training loop and what it needs (`scs_jax.train`, …) are not imported here.
"""

from scs_jax.layers import linen, nnx
from scs_jax.ops import (
  abs_max_pool,
  b_cos,
  sharpened_cosine_attention,
  sharpened_cosine_similarity,
  soft_cosine_similarity,
)

__version__ = '0.1.0'

__all__ = [
  'abs_max_pool',
  'b_cos',
  'linen',
  'nnx',
  'sharpened_cosine_attention',
  'sharpened_cosine_similarity',
  'soft_cosine_similarity',
]
