"""Soft cosine similarity: patches are compared under a similarity between their features."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.errors import ArgumentError
from scs_jax.ops import arguments
from scs_jax.ops.correlation import correlate
from scs_jax.ops.derivatives import limit_slope, quotient
from scs_jax.ops.scaling import norm
from scs_jax.ops.scs import cosine
from scs_jax.ops.sharpening import sharpen


def soft_cosine_similarity(
  x: jax.Array,
  kernel: jax.Array,
  mixing: jax.Array,
  p: jax.typing.ArrayLike = 1.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  kernel_q: jax.typing.ArrayLike | None = None,
  strides: int | Sequence[int] | None = 1,
  padding: arguments.Padding = 'SAME',
  input_dilation: int | Sequence[int] | None = 1,
  kernel_dilation: int | Sequence[int] | None = 1,
  feature_group_count: int = 1,
  precision: lax.PrecisionLike = None,
) -> jax.Array:
  r"""Compares patches and kernels whose features are not orthogonal.

  .. math::
    y = \operatorname{sign}(c)\,|c|^p, \qquad
    c = \frac{s^\top M k}{(\sqrt{s^\top M s} + q)(\sqrt{k^\top M k} + q_k)}, \qquad M = A A^\top

  If `mixing` is the identity, this is `sharpened_cosine_similarity`. Because `M` is a product,
  :math:`A^\top s` and :math:`A^\top k` are compared by their plain cosine, and no patch is
  materialised.

  Args:
    x: `[batch, *spatial, in]`, floating; one to three spatial dimensions.
    kernel: `[*window, in // feature_group_count, out]`, floating.
    mixing: the factor `A`, `[prod(window) * in // feature_group_count, rank]`. Its rows are in the
      order of `kernel.reshape(-1, out)`. All groups use the same factor.
    p: sharpening exponent, a scalar or `[out]`, greater than 0.
    q: added to the norm of the patch, a scalar or `[out]`, at least 0.
    kernel_q: added to the norm of the kernel, like `q`; None means `q`.
    strides: step of the window, an integer or one for each spatial dimension.
    padding: as for `sharpened_cosine_similarity`.
    input_dilation: step between the pixels; zeros are put between them.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups the features are split into.
    precision: of the products, as for `lax.conv_general_dilated`.

  Returns:
    `[batch, *spatial', out]`, dtype of `x`, within [-1, 1].

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.

  References:
    Sidorov et al., 2014: Soft Similarity and Soft Cosine Measure.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    >>> scs_jax.soft_cosine_similarity(x, kernel, jnp.eye(27), p=2.0).shape
    (1, 8, 8, 4)
  """
  x, kernel = arguments.as_floating('x', x), arguments.as_floating('kernel', kernel)
  mixing, groups = arguments.as_floating('mixing', mixing), feature_group_count
  x, window = arguments.seen_by_kernel(
    x, kernel, strides, padding, input_dilation, kernel_dilation, groups
  )
  *taps, out = kernel.shape
  features = math.prod(taps)
  if mixing.ndim != 2 or mixing.shape[0] != features or not mixing.size:
    raise ArgumentError(
      f'mixing must be [{features}, rank] for a kernel of shape {kernel.shape}, got {mixing.shape}'
    )
  dtype = arguments.accumulation_dtype(x, kernel, mixing)
  p, q, q_k = arguments.as_parameters(p, q, kernel_q, out, dtype)

  rank = mixing.shape[1]
  common = arguments.common_dtype(x.dtype, kernel.dtype, mixing.dtype)
  s, k, a = x.astype(common), kernel.astype(common), mixing.astype(common)
  # The product of patch and A is a convolution. Its kernels are the columns of A, in every group.
  columns = jnp.tile(a.reshape(*taps, rank), groups)
  s = correlate(s, columns, window, groups, method='convolution', precision=precision, dtype=dtype)
  s = s.reshape(*s.shape[:-1], groups, rank)
  k = jnp.einsum(
    'fr,fo->ro', a, k.reshape(features, out), precision=precision, preferred_element_type=dtype
  )
  s_norm = norm(s, -1)
  k = quotient(k, lax.expand_dims(norm(k, 0) + q_k, (0,)))
  dot = jnp.einsum('...gr,rgo->...go', s, k.reshape(rank, groups, -1), precision=precision)
  dot = dot.reshape(*dot.shape[:-2], out)
  q = lax.expand_dims(q, range(dot.ndim - q.ndim))
  finish = lambda dot, s_norm, q, p: sharpen(cosine(dot, s_norm, q), p).astype(x.dtype)
  return limit_slope(finish, common)(dot, s_norm, q, p)
