"""Pure functions on arrays."""

from scs_jax.ops.pooling import abs_max_pool
from scs_jax.ops.scs import sharpened_cosine_similarity
from scs_jax.ops.soft_cosine import soft_cosine_similarity

__all__ = ['abs_max_pool', 'sharpened_cosine_similarity', 'soft_cosine_similarity']
