"""Shared by both kinds of module: the parametrisation of p and q, and the call of the ops.

p and q must stay positive. A layer learns an unconstrained number and takes its softplus:
`p = log(1 + exp(raw_p))`. Near 0, softplus acts like exp, so p and q can approach 0 without
crossing it. For large p it is the identity, so an optimizer step moves p = 10 no further than
p = 1. With exp it would move ten times as far, although sharpening is already exponential in p.
Clipping p in the graph is no alternative: a p outside of its bounds would never again receive a
gradient.

On a small network no map learns better than another: all reach 96.8 to 97.0 % over three seeds
(`experiments/parametrisation/`). Softplus is the one without a failure mode.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike

from scs_jax.errors import ArgumentError, check_known
from scs_jax.ops import b_cos, sharpened_cosine_similarity, sharpened_cosine_transpose
from scs_jax.ops.arguments import (
  check_center,
  common_dtype,
  is_integer,
  per_dimension,
)

OUTPUTS = ('bounded', 'unit', 'b_cos')
MODES = ('per_kernel', 'shared', 'fixed')
Initializer = Callable[[jax.Array, tuple[int, ...], DTypeLike], Any]  # boxed, if partitioned
Init = ArrayLike | Sequence[float] | Initializer  # of p or q, as a user gives it
Initial = float | tuple[float, ...] | Initializer  # the same, checked


def positive(raw: jax.Array) -> jax.Array:
  """Returns softplus of `raw`: the p or q of an unconstrained parameter.

  Softplus underflows to 0 below -87, so the smallest normal number is added.
  """
  return jax.nn.softplus(raw) + float(jnp.finfo(jnp.float32).tiny)


def raw(value: jax.Array) -> jax.Array:
  """Returns the unconstrained parameter whose softplus is `value`, for `value > 0`."""
  return value + jnp.log(-jnp.expm1(-value))


def check_initial(name: str, init: Init, mode: str, kernels: int) -> Initial:
  """Checks the initial value of p or q and its mode.

  Args:
    name: 'p' or 'q'.
    init: the initial value, an array with one for each kernel, or an initializer.
    mode: one of `MODES`.
    kernels: number of kernels.

  Returns:
    `init`, with an array as a tuple, which an attribute of a module can be.

  Raises:
    ArgumentError: for an unknown mode, for a value that is not positive (a fixed q may be 0), for
      an array of the wrong size, or for an initializer where a number is needed.
  """
  check_known(f'{name}_mode', mode, MODES)
  if callable(init):
    if mode == 'fixed':
      raise ArgumentError(f"{name}_init must be a number when {name}_mode is 'fixed', got {init!r}")
    return init
  try:
    values = np.asarray(init, np.float64)
  except (TypeError, ValueError):
    values = np.asarray(math.nan)
  zero_is_fine = name == 'q' and mode == 'fixed'
  if not np.all((values < math.inf) & ((values > 0) | (zero_is_fine & (values == 0)))):
    hint = ' (use a small one, e.g. 1e-3; only a fixed q may be 0)' if name == 'q' else ''
    raise ArgumentError(f'{name}_init must be a positive number, got {init!r}{hint}')
  if not values.ndim:
    return init if isinstance(init, int) else float(values)
  if values.shape != (kernels,) or mode == 'shared':
    raise ArgumentError(
      f'{name}_init of shape {values.shape} does not fit {name}_mode={mode!r} with {kernels} '
      f"kernels: give one number, or one for each kernel with {name}_mode 'per_kernel' or 'fixed'"
    )
  return tuple(values.tolist())


def raw_initializer(init: Initial) -> Initializer:
  """Returns the initializer of the unconstrained parameter, given that of p or q.

  The parameter is float32, or float64 if `param_dtype` is float64. In bfloat16, 1 + 1e-3 is 1, so
  adding q to a norm would have no effect.
  """

  def initialise(key, shape, dtype):
    dtype = at_least_float32(dtype)
    if not callable(init):
      return raw(jnp.broadcast_to(jnp.asarray(init, dtype), shape))
    value = init(key, shape, dtype)
    if isinstance(value, nnx.VariableMetadata):  # as nnx.with_partitioning returns it
      return dataclasses.replace(value, raw_value=raw(value.raw_value))
    return jax.tree.map(raw, value)  # linen.with_partitioning boxes the array

  return initialise


def fixed(init: Initial) -> float | jax.Array:
  """Returns a fixed p or q as the ops take it. It is no initializer: see `check_initial`."""
  return jnp.asarray(init) if isinstance(init, tuple) else cast(float, init)


def initial_scale(value: float, dtype: DTypeLike) -> jax.Array:
  """Returns the initial output scale, a scalar: float32, or float64 if `dtype` is float64."""
  return jnp.asarray(value, at_least_float32(dtype))


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
  """Returns float64 for float64, else float32."""
  return common_dtype(dtype, jnp.float32)


def raw_shape(mode: str, kernels: int) -> tuple[int, ...]:
  """Returns the shape of a learned p or q: one value for each kernel, or one for all."""
  return (kernels,) if mode == 'per_kernel' else ()


def kernel_sizes(kernel_size: int | Sequence[int]) -> tuple[int, ...]:
  """Returns one size for each spatial dimension; an integer means one dimension.

  Raises:
    ArgumentError: they are not integers of at least 1.
  """
  sizes = tuple(kernel_size) if np.iterable(kernel_size) else (kernel_size,)
  return per_dimension('kernel_size', sizes, len(sizes))


def plain(value: Any) -> Any:
  """Returns integers of NumPy as those of Python, and sequences of them as tuples."""
  if is_integer(value):
    return int(value)
  if isinstance(value, Sequence) and not isinstance(value, str):
    return tuple(map(plain, value))
  return value


NOT_TRANSPOSED = {
  'input_dilation': 1,
  'feature_group_count': 1,
  'mask': None,
  'center': False,
  'output': 'bounded',
  'share_kernels': False,
  'method': 'auto',
  'preferred_element_type': None,
}


def check_transposes(options: Mapping[str, Any]) -> None:
  """Raises ArgumentError for an option that has no meaning in a transposed layer."""
  for name, value in NOT_TRANSPOSED.items():
    given = options.get(name, value)
    if given is not value and (np.ndim(given) or given != value):  # arrays have no truth value
      raise ArgumentError(
        f'{name} has no meaning in a transposed layer and must be {value!r}, got {given!r}'
      )


def promoted(
  x: jax.Array, kernel: jax.Array, dtype: DTypeLike | None
) -> tuple[jax.Array, jax.Array]:
  """Returns input and kernel in `dtype`; None is the dtype that both promote to."""
  dtype = dtype or common_dtype(x.dtype, kernel.dtype)
  return x.astype(dtype), kernel.astype(dtype)


def check_no_bias(use_bias: bool) -> None:
  """Raises ArgumentError if a bias is asked for."""
  if use_bias:
    raise ArgumentError(
      'use_bias must be False, got True: a bias would take the similarity out of [-1, 1] and the '
      'network would no longer be exact to explain; let the next layer or a linear head add it'
    )


def kernel_shape(
  kernel_size: tuple[int, ...],
  in_features: int,
  out_features: int,
  groups: int,
  share_kernels: bool,
  center: bool,
) -> tuple[int, ...]:
  """Returns the shape of the learned kernels.

  Raises:
    ArgumentError: if the groups do not divide the features, if a size is not positive, or if a
      centred patch would have only one value.
  """
  for name, features in (('in_features', in_features), ('out_features', out_features)):
    if not is_integer(features):
      raise ArgumentError(f'{name} must be a whole number, got {features!r}')
    if features < 1:
      raise ArgumentError(f'{name} must be at least 1, got {features}')
    if not is_integer(groups) or groups < 1 or features % groups:
      raise ArgumentError(f'feature_group_count {groups!r} does not divide {name} {features}')
  kernels = out_features // (groups if share_kernels else 1)
  shape = (*kernel_size, int(in_features // groups), int(kernels))
  if center:
    check_center(shape)
  return shape


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
  mask: jax.Array | None,
  center: bool,
  **arguments: Any,
) -> jax.Array:
  """Applies the op of a layer.

  Args:
    x: `[*batch, *spatial, in]`, floating, with any number of batch dimensions, or none.
    kernel: `[*window, in // groups, kernels]`; `kernels` is `out`, or `out // groups` if they are
      shared.
    p: sharpening exponent, a scalar or `[kernels]`.
    q: added to the norms, a scalar or `[kernels]`.
    scale: factor on the output, a scalar; None is 1.
    output: one of `OUTPUTS`.

      - 'bounded': the similarity, within [-1, 1].
      - 'unit': `n ** (p / 2)` times the similarity, where `n` is the number of values in a patch,
        less one if it is centred. Two unrelated directions have a similarity of about
        `1 / sqrt(n)`, so this output is of unit size for every `n` and `p`. Deep networks then keep
        their signal (`experiments/depth/`).
      - 'b_cos': the similarity times the norm of the patch, see `scs_jax.b_cos`.
    share_kernels: whether every group uses the same kernels.
    feature_group_count: number of groups.
    mask: shape of `kernel`, what the kernels see of a patch; None is everything.
    center: whether the means of patch and kernel are subtracted.
    **arguments: the other arguments of `sharpened_cosine_similarity`.

  Returns:
    `[*batch, *spatial', out]`.

  Raises:
    ArgumentError: names the argument, its value and the remedy.
  """
  check_known('output', output, OUTPUTS)
  if output == 'unit' and mask is not None:
    raise ArgumentError("output='unit' needs mask=None: kernels that see less have other units")
  if share_kernels:
    kernel = jnp.tile(kernel, feature_group_count)
    mask = None if mask is None else jnp.tile(mask, feature_group_count)
    p, q = (jnp.tile(v, feature_group_count) if jnp.ndim(v) else v for v in (p, q))
  if no_window := kernel.ndim == 2:  # Vectors are images of one pixel.
    x, kernel, mask = x[..., None, :], kernel[None], None if mask is None else mask[None]
  batch, x = flat_batch(x, kernel)
  function = b_cos if output == 'b_cos' else sharpened_cosine_similarity
  y = function(
    x,
    kernel,
    p,
    q,
    feature_group_count=feature_group_count,
    mask=mask,
    center=center,
    **arguments,
  )
  if output == 'unit':
    n = math.prod(kernel.shape[:-1]) - center
    unit = jnp.asarray(n**0.5, at_least_float32(y.dtype)) ** p
    y = (y * jnp.broadcast_to(unit, y.shape)).astype(y.dtype)
  if scale is not None:
    y = y * scale.astype(y.dtype)
  y = y if len(batch) == 1 else y.reshape(*batch, *y.shape[1:])
  return y[..., 0, :] if no_window else y


def transposed(
  x: jax.Array, kernel: jax.Array, p: Any, q: Any, scale: jax.Array | None, **arguments: Any
) -> jax.Array:
  """Applies the op of a transposed layer.

  Args:
    x: `[*batch, *spatial, in]`, floating, with any number of batch dimensions, or none.
    kernel: `[*window, in, out]`.
    p: sharpening exponent, a scalar or `[out]`.
    q: added to the norms, a scalar or `[out]`.
    scale: factor on the output, a scalar; None is 1.
    **arguments: the other arguments of `sharpened_cosine_transpose`.

  Returns:
    `[*batch, *spatial', out]`.
  """
  batch, x = flat_batch(x, kernel)
  y = sharpened_cosine_transpose(x, kernel, p, q, **arguments)
  if scale is not None:
    y = y * scale.astype(y.dtype)
  return y if len(batch) == 1 else y.reshape(*batch, *y.shape[1:])


def flat_batch(x: jax.Array, kernel: jax.Array) -> tuple[tuple[int, ...], jax.Array]:
  """Returns the batch dimensions of `x`, and `x` with one: `[prod(batch), *spatial, in]`.

  Raises:
    ArgumentError: it has too few dimensions for the kernel.
  """
  image_rank = kernel.ndim - 1
  if x.ndim < image_rank:
    raise ArgumentError(
      f'x must have at least {image_rank} dimensions, [*batch, *spatial, features], for a '
      f'kernel of shape {kernel.shape}; got shape {x.shape}'
    )
  batch = x.shape[: x.ndim - image_rank]
  return batch, x if len(batch) == 1 else x.reshape(math.prod(batch), *x.shape[len(batch) :])
