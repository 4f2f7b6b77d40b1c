"""Sharpened cosine similarity of vectors: no window, no image."""

import math

import jax
from jax import lax

from scs_jax.errors import ArgumentError
from scs_jax.ops import arguments
from scs_jax.ops.scs import sharpened_cosine_similarity


def sharpened_cosine_dense(
  x: jax.Array,
  kernel: jax.Array,
  p: jax.typing.ArrayLike = 1.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  kernel_q: jax.typing.ArrayLike | None = None,
  center: bool = False,
  precision: lax.PrecisionLike = None,
) -> jax.Array:
  """Compares every vector with every kernel: `sharpened_cosine_similarity` without a window.

  Args:
    x: `[*batch, in]`, floating, with any number of batch dimensions, or none.
    kernel: `[in, out]`, floating.
    p: sharpening exponent, a scalar or `[out]`, greater than 0.
    q: added to the norm of the vector, a scalar or `[out]`, at least 0.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    center: whether the means of vector and kernel are subtracted.
    precision: of the products, as for `lax.dot_general`.

  Returns:
    `[*batch, out]`, dtype of `x`, within [-1, 1].

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.

  References:
    Luo et al., 2017: Cosine Normalization: Using Cosine Similarity Instead of Dot Product in Neural
    Networks.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> scs_jax.sharpened_cosine_dense(jnp.ones((32, 64)), jnp.ones((64, 10)), p=2.0).shape
    (32, 10)
  """
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  if not x.ndim or kernel.ndim != 2:
    raise ArgumentError(
      f'x must be [*batch, in] and kernel [in, out], got shapes {x.shape} and {kernel.shape}'
    )
  batch = x.shape[:-1]
  # The vectors are images of one pixel: each has a unit of its own for its norm.
  y = sharpened_cosine_similarity(
    x.reshape(math.prod(batch), 1, x.shape[-1]),
    kernel[None],
    p,
    q,
    kernel_q=kernel_q,
    center=center,
    padding='VALID',
    precision=precision,
  )
  return y.reshape(*batch, kernel.shape[-1])
