"""Attention whose scores are sharpened cosine similarities."""

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.errors import ArgumentError
from scs_jax.ops import arguments
from scs_jax.ops.derivatives import limit_slope, quotient
from scs_jax.ops.scaling import in_own_units
from scs_jax.ops.sharpening import sharpen


def sharpened_cosine_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  p: jax.typing.ArrayLike = 2.0,
  q: jax.typing.ArrayLike = 0.0,
  *,
  mask: jax.typing.ArrayLike | None = None,
  is_causal: bool = False,
  precision: lax.PrecisionLike = None,
) -> jax.Array:
  r"""Averages values, weighted by the signed similarity of query and key.

  .. math::
    y_i = \frac{\sum_j a_{ij} v_j}{\sum_j |a_{ij}|}, \qquad
    a_{ij} = \operatorname{sign}(c_{ij})\,|c_{ij}|^p, \qquad
    c_{ij} = \frac{q_i \cdot k_j}{(\|q_i\| + q)(\|k_j\| + q)}

  Norms are over the features of one token in one head. The magnitudes of a query's weights add up
  to 1, however small the sharpened similarities are, so no component of the output exceeds the
  largest magnitude among the values. A key that points opposite to the query subtracts its value.

  Args:
    query: `[*batch, tokens, heads, depth]`, floating.
    key: `[*batch, keys, heads, depth]`, floating.
    value: `[*batch, keys, heads, features]`, floating.
    p: sharpening exponent, a scalar or `[heads]`, greater than 0.
    q: added to both norms, a scalar or `[heads]`, at least 0.
    mask: boolean, broadcasts to `[*batch, heads, tokens, keys]`; a query sees the keys where it is
      True, as for `jax.nn.dot_product_attention`.
    is_causal: whether a query sees no later key than itself.
    precision: of the products, as for `lax.dot_general`.

  Returns:
    `[*batch, tokens, heads, features]`, dtype of `value`. A query that is orthogonal to every key
    gives 0, and so does one that sees none.

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> tokens = jnp.ones((2, 16, 4, 8))
    >>> scs_jax.sharpened_cosine_attention(tokens, tokens, tokens).shape
    (2, 16, 4, 8)
  """
  query, key, value = (
    arguments.as_floating(name, x) for name, x in (('query', query), ('key', key), ('value', value))
  )
  for name, x in (('query', query), ('key', key), ('value', value)):
    if x.ndim < 3:
      raise ArgumentError(f'{name} must be [*batch, tokens, heads, features], got shape {x.shape}')
  if query.shape[:-3] + query.shape[-2:] != key.shape[:-3] + key.shape[-2:]:
    raise ArgumentError(
      f'key must be [*batch, keys, heads, depth] like query of shape {query.shape}, got {key.shape}'
    )
  if value.shape[:-1] != key.shape[:-1]:
    raise ArgumentError(
      f'value must have the batch, keys and heads of key {key.shape}, got {value.shape}'
    )
  dtype, heads = arguments.accumulation_dtype(query, key), query.shape[-2]
  p = arguments.as_scalar_or_features('p', p, heads, dtype, positive=True)
  q = arguments.as_scalar_or_features('q', q, heads, dtype, positive=False)

  def with_lengths(x):
    wide, length = in_own_units(x.astype(dtype), jnp.broadcast_to(q, x.shape[:-1]))
    return wide.astype(x.dtype), length

  (query, query_length), (key, key_length) = with_lengths(query), with_lengths(key)
  dot = jnp.einsum(
    '...ihd,...jhd->...ijh', query, key, precision=precision, preferred_element_type=dtype
  )
  length = jnp.einsum('...ih,...jh->...ijh', query_length, key_length)
  compare = lambda dot, length, p: sharpen(quotient(dot, length), p)
  a = limit_slope(compare, arguments.common_dtype(query.dtype, key.dtype))(dot, length, p)
  if mask is not None or is_causal:
    a = jnp.where(_seen(mask, is_causal, a.shape), a, 0)
  total = jnp.abs(a).sum(-2, keepdims=True)
  weights = quotient(a, jnp.broadcast_to(total, a.shape)).astype(value.dtype)
  return jnp.einsum('...ijh,...jhf->...ihf', weights, value, precision=precision)


def _seen(mask: jax.typing.ArrayLike | None, is_causal: bool, shape: tuple[int, ...]) -> jax.Array:
  """Returns which keys the queries see, as booleans of `shape`: `[*batch, tokens, keys, heads]`."""
  *batch, tokens, keys, heads = shape
  seen = jnp.tri(tokens, keys, dtype=bool) if is_causal else jnp.ones((), bool)
  if mask is not None:
    array, full = jnp.asarray(mask), (*batch, heads, tokens, keys)
    if array.dtype != bool:
      raise ArgumentError(f'mask must be boolean, True where a key is seen, got {array.dtype}')
    sizes = zip(reversed(array.shape), reversed(full), strict=False)
    if array.ndim > len(full) or any(n not in (1, wanted) for n, wanted in sizes):
      raise ArgumentError(
        f'mask must broadcast to [*batch, heads, tokens, keys], here {full}, got {array.shape}'
      )
    seen = seen & array
  return jnp.moveaxis(jnp.broadcast_to(seen, (*batch, heads, tokens, keys)), -3, -1)
