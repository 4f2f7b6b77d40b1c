"""Mixup: training on blends of two examples."""

import jax
import jax.numpy as jnp

_MIXUP = 5  # folded into the keys of examples; see `scs_jax.data.augment` and `train.steps`


def mixup(
  keys: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float, num_classes: int
) -> tuple[jax.Array, jax.Array]:
  """Blends each example with its neighbour: rows 0 and 1 with each other, 2 and 3, and so on.

  Batches are shuffled, so a neighbour is as random as any other row, and it is on the same device.

  Args:
    keys: `[batch]`, one for each example; the batch is even.
    images: `[batch, height, width, channels]`, floating-point.
    labels: `[batch]` integers.
    alpha: both parameters of the Beta distribution of an example's own share; greater than 0. Small
      values leave most examples nearly as they are; 1 makes all shares equally likely.
    num_classes: of the labels.

  Returns:
    Images of the same shape, and the probabilities of the classes, `[batch, num_classes]` float32.

  References:
    Zhang et al., 2018: mixup: Beyond Empirical Risk Minimization.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from scs_jax.train.mixup import mixup
    >>> keys, images = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 28, 28, 1))
    >>> images, labels = mixup(keys, images, jnp.array([3, 7]), alpha=0.2, num_classes=10)
    >>> images.shape, labels.shape
    ((2, 28, 28, 1), (2, 10))
  """
  draw = lambda key: jax.random.beta(jax.random.fold_in(key, _MIXUP), alpha, alpha)
  share = jax.vmap(draw)(keys).astype(jnp.float32)
  targets = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
  return _blended(share, images), _blended(share, targets)


def _blended(share: jax.Array, rows: jax.Array) -> jax.Array:
  own = share.astype(rows.dtype).reshape(-1, *(1,) * (rows.ndim - 1))
  neighbours = rows.reshape(-1, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)
  return own * rows + (1 - own) * neighbours
