"""What both kinds of module share: the parametrisation of p and q, and the call into the ops.

p and q must stay positive. They are learned through an unconstrained number and softplus,
`p = log(1 + exp(raw_p))`. Near 0 softplus acts like exp, so p and q can approach 0 without crossing
it. For large p it is the identity, so an optimizer step moves p = 10 as far as p = 1; exp would
move it ten times as far, and sharpening is already exponential in p. Clipping would leave a p
outside its bounds without a gradient for good. In a small network all maps learn equally well
(`experiments/parametrisation/`: 96.8 to 97.0 %, three seeds each); softplus cannot fail.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from scs_jax.errors import ArgumentError, check_known
from scs_jax.ops import b_cos, sharpened_cosine_similarity
from scs_jax.ops.arguments import as_floating, common_dtype, per_dimension

OUTPUTS = ('bounded', 'unit', 'b_cos')
MODES = ('per_kernel', 'shared', 'fixed')
Initializer = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]


def positive(raw: jax.Array) -> jax.Array:
  """Returns softplus of `raw`: the p or q of an unconstrained parameter.

  The smallest normal number is added, because softplus underflows to 0 below -87.
  """
  return jax.nn.softplus(raw) + float(jnp.finfo(jnp.float32).tiny)


def raw(value: jax.Array) -> jax.Array:
  """Returns the unconstrained parameter whose softplus is `value` > 0."""
  return value + jnp.log(-jnp.expm1(-value))


def check_initial(name: str, init: float | Initializer, mode: str) -> None:
  """Checks the initial value of p or q against how it is learned.

  Raises:
    ArgumentError: for an unknown mode, a value that is not positive (0 is allowed for a fixed q),
    or
      an initializer where a number is needed.
  """
  check_known(f'{name}_mode', mode, MODES)
  if callable(init):
    if mode == 'fixed':
      raise ArgumentError(f"{name}_init must be a number when {name}_mode is 'fixed', got {init!r}")
    return
  value = float(init)
  zero_is_fine = name == 'q' and mode == 'fixed' and value == 0
  if not (0 < value < math.inf or zero_is_fine):
    hint = ' (use a small one, e.g. 1e-3; 0 only fits a fixed q)' if name == 'q' else ''
    raise ArgumentError(f'{name}_init must be a positive number, got {init!r}{hint}')


def raw_initializer(init: float | Initializer) -> Initializer:
  """Returns the initializer of the unconstrained parameter for an initial value of p or q.

  p and q are float32 for every `param_dtype` but float64: bfloat16 cannot tell a norm of 1 from
  1 + 1e-3.
  """

  def initialise(key, shape, dtype):
    dtype = at_least_float32(dtype)
    value = init(key, shape, dtype) if callable(init) else jnp.full(shape, init, dtype)
    return raw(value)

  return initialise


def initial_scale(value: float, dtype: jnp.dtype) -> jax.Array:
  """Returns the initial output scale, a scalar, float32 or float64 like p and q."""
  return jnp.asarray(value, at_least_float32(dtype))


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
  """Returns float64 for float64, else float32."""
  return common_dtype(dtype, jnp.float32)


def raw_shape(mode: str, kernels: int) -> tuple[int, ...]:
  """Returns the shape of p or q: one for each learned kernel, or one for all."""
  return (kernels,) if mode == 'per_kernel' else ()


def kernel_shape(
  kernel_size: tuple[int, ...],
  in_features: int,
  out_features: int,
  groups: int,
  share_kernels: bool,
) -> tuple[int, ...]:
  """Returns the shape of the learned kernels, checked.

  Raises:
    ArgumentError: if the groups do not divide the features, or a size is not positive.
  """
  kernel_size = per_dimension('kernel_size', kernel_size, len(kernel_size))
  for name, features in (('in_features', in_features), ('out_features', out_features)):
    if features < 1:
      raise ArgumentError(f'{name} must be at least 1, got {features}')
    if groups < 1 or features % groups:
      raise ArgumentError(f'feature_group_count {groups} does not divide {name} {features}')
  return (*kernel_size, in_features // groups, out_features // (groups if share_kernels else 1))


def similarity(
  x: jax.Array,
  kernel: jax.Array,
  p: float | jax.Array,
  q: float | jax.Array,
  scale: jax.Array | None,
  *,
  output: str,
  share_kernels: bool,
  feature_group_count: int,
  dtype: jnp.dtype | None,
  **arguments,
) -> jax.Array:
  """Applies the op as a layer does, with its batch dimensions, dtype, shared kernels and output.

  Args:
    x: `[*batch, *spatial, in]`, any number of batch dimensions, none included.
    kernel: `[*window, in // groups, kernels]`; `kernels` is `out // groups` if they are shared.
    p: a number, a scalar or `[kernels]`; `q` likewise.
    q: see `p`.
    scale: factor on the output, a scalar; None is 1.
    output: 'bounded' is the similarity. 'unit' multiplies it by `n ** (p / 2)`, where `n` is the
      number of values in a patch. Two unrelated directions have a similarity of about
      `1 / sqrt(n)`, so the output then has unit size for every `n` and `p`, and deep networks keep
      their signal (`experiments/depth/`). 'b_cos' multiplies it by the norm of the patch, see
      `scs_jax.b_cos`.
    share_kernels: whether every group uses the same kernels.
    feature_group_count: number of groups.
    dtype: of the products; None is what `x` and `kernel` promote to.
    **arguments: passed to `sharpened_cosine_similarity`.

  Returns:
    `[*batch, *spatial', out]`.
  """
  check_known('output', output, OUTPUTS)
  x = as_floating('x', x)
  if share_kernels:
    kernel = jnp.tile(kernel, feature_group_count)
    p, q = (jnp.tile(v, feature_group_count) if jnp.ndim(v) else v for v in (p, q))
  dtype = dtype or common_dtype(x.dtype, kernel.dtype)
  image_rank = kernel.ndim - 1
  if x.ndim < image_rank:
    raise ArgumentError(
      f'x must have at least {image_rank} dimensions, [*batch, *spatial, features], for a '
      f'kernel of shape {kernel.shape}; got shape {x.shape}'
    )
  batch = x.shape[: x.ndim - image_rank]
  function = b_cos if output == 'b_cos' else sharpened_cosine_similarity
  y = function(
    x.reshape(-1, *x.shape[len(batch) :]).astype(dtype),
    kernel.astype(dtype),
    p,
    q,
    feature_group_count=feature_group_count,
    **arguments,
  )
  if output == 'unit':
    unit = jnp.asarray(math.prod(kernel.shape[:-1]) ** 0.5, at_least_float32(dtype)) ** p
    y = (y * jnp.broadcast_to(unit, y.shape)).astype(y.dtype)
  if scale is not None:
    y = y * scale.astype(y.dtype)
  return y.reshape(*batch, *y.shape[1:])
