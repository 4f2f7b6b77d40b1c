"""Flax modules around the ops: `nnx` and `linen`."""
