"""Pure functions on arrays: the equations. This room needs JAX alone, no Flax."""

from scs_jax.ops.attention import sharpened_cosine_attention
from scs_jax.ops.b_cos import b_cos
from scs_jax.ops.dense import sharpened_cosine_dense
from scs_jax.ops.pooling import abs_max_pool
from scs_jax.ops.scs import sharpened_cosine_similarity
from scs_jax.ops.soft_cosine import soft_cosine_similarity
from scs_jax.ops.transpose import sharpened_cosine_transpose

__all__ = [
  'abs_max_pool',
  'b_cos',
  'sharpened_cosine_attention',
  'sharpened_cosine_dense',
  'sharpened_cosine_similarity',
  'sharpened_cosine_transpose',
  'soft_cosine_similarity',
]
