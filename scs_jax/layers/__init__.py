"""Flax modules around the ops: `nnx` and `linen`."""

from scs_jax.layers import linen, nnx

__all__ = ['linen', 'nnx']
