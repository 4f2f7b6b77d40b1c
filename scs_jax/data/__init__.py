"""Where examples come from, how a batch is made, and how it is augmented."""

from scs_jax.data import augment, batches, sources

__all__ = ['augment', 'batches', 'sources']
