"""Checks and resolves the arguments of the ops."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from scs_jax.errors import ArgumentError

Padding = str | int | Sequence[int | tuple[int, int]]
BORDERS = {'CIRCULAR': 'wrap', 'REFLECT': 'reflect'}  # the modes of jnp.pad


@dataclasses.dataclass(frozen=True)
class Window:
  """A sliding window, resolved: one entry for each spatial dimension."""

  shape: tuple[int, ...]
  strides: tuple[int, ...]
  padding: tuple[tuple[int, int], ...]
  dilation: tuple[int, ...]
  output: tuple[int, ...]  # number of positions that the window takes


def seen_by_kernel(
  x: jax.Array,
  kernel: jax.Array,
  strides: int | Sequence[int] | None,
  padding: Padding,
  input_dilation: int | Sequence[int] | None,
  kernel_dilation: int | Sequence[int] | None,
  groups: int,
) -> tuple[jax.Array, Window]:
  """Returns the images as the kernel sees them and the `Window` in which it slides over them.

  The arguments have the meaning that they have for `flax.nnx.Conv`. What lies outside of the images
  in the result is zeros.

  Args:
    x: `[batch, *spatial, in]`.
    kernel: `[*window, in // groups, out]`.
    strides: step of the window.
    padding: of the images.
    input_dilation: step between the pixels; zeros are put between them.
    kernel_dilation: step between the positions inside the window.
    groups: number of groups that the features are split into.

  Raises:
    ArgumentError: names the argument, its value and the remedy.
  """
  spatial = check_images(x)
  _check_kernel(x, kernel, groups)
  shape, rank = kernel.shape[:-2], len(spatial)
  spread = steps('input_dilation', input_dilation, rank)
  dilation = steps('kernel_dilation', kernel_dilation, rank)
  reach = tuple((w - 1) * d + 1 for w, d in zip(shape, dilation, strict=True))
  mode = BORDERS.get(padding.upper()) if isinstance(padding, str) else None
  if mode:
    pads = [((r - 1) // 2, r // 2) for r in reach]
    if not all(spatial):
      raise ArgumentError(f'padding {padding!r} needs pixels, got x of shape {x.shape}')
    x, pads = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode=mode), [(0, 0)] * rank
  else:
    pads = padding_pairs(padding, spatial, reach, steps('strides', strides, rank), negative=True)
  inside = [(min(low, 0), min(high, 0), d - 1) for (low, high), d in zip(pads, spread, strict=True)]
  if any(map(any, inside)):
    sizes = [
      (n - 1) * (d + 1) + 1 + low + high for n, (low, high, d) in zip(spatial, inside, strict=True)
    ]
    if min(sizes) < 1:
      raise ArgumentError(f'padding {padding!r} leaves nothing of images of size {spatial}')
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *inside, (0, 0, 0)))
  pads = tuple((max(low, 0), max(high, 0)) for low, high in pads)
  return x, resolve_window(
    x.shape[1:-1], shape, strides, pads, dilation, shape_name='the kernel window'
  )


def resolve_window(
  spatial: tuple[int, ...],
  shape: int | Sequence[int],
  strides: int | Sequence[int] | None,
  padding: Padding,
  dilation: int | Sequence[int] | None = 1,
  *,
  shape_name: str,
) -> Window:
  """Returns the `Window` that these arguments describe over an image of size `spatial`.

  Args:
    spatial: size of the image.
    shape: size of the window.
    strides: step of the window; None is 1.
    padding: of the image.
    dilation: step between the positions inside the window, like `strides`.
    shape_name: name of `shape` in error messages.

  Raises:
    ArgumentError: names the argument, its value and the remedy.
  """
  rank = len(spatial)
  shape = per_dimension(shape_name, shape, rank)
  strides = steps('strides', strides, rank)
  dilation = steps('kernel_dilation', dilation, rank)
  reach = tuple((w - 1) * d + 1 for w, d in zip(shape, dilation, strict=True))
  pads = padding_pairs(padding, spatial, reach, strides)
  padded = tuple(n + low + high for n, (low, high) in zip(spatial, pads, strict=True))
  if any(r > n for r, n in zip(reach, padded, strict=True)):
    raise ArgumentError(
      f'{shape_name} {shape} with dilation {dilation} spans {reach} and is larger than the padded '
      f'input {padded}: use a smaller window, a larger input or more padding'
    )
  output = tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, strides, strict=True))
  return Window(shape, strides, pads, dilation, output)


def steps(name: str, value: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
  """Returns strides or a dilation as `rank` positive integers; None is 1."""
  return per_dimension(name, 1 if value is None else value, rank)


def per_dimension(name: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
  """Returns `value` as `rank` positive integers; a single integer counts for all dimensions."""
  values = (value,) * rank if is_integer(value) else value
  if not _is_sequence(values) or not all(is_integer(v) for v in values):
    raise ArgumentError(f'{name} must be an integer or a sequence of integers, got {value!r}')
  if len(values) != rank:
    raise ArgumentError(
      f'{name} {value!r} has {len(values)} entries and the input has {rank} spatial dimensions: '
      'give one entry for each'
    )
  if any(v < 1 for v in values):
    raise ArgumentError(f'{name} must be at least 1 in every dimension, got {value!r}')
  return tuple(int(v) for v in values)


def padding_pairs(
  padding: Padding,
  spatial: tuple[int, ...],
  reach: tuple[int, ...],
  strides: tuple[int, ...],
  *,
  negative: bool = False,
) -> tuple[tuple[int, int], ...]:
  """Returns `padding` as one (low, high) pair for each spatial dimension.

  Args:
    padding: as a user gives it.
    spatial: size of the image.
    reach: size of the window with its dilation.
    strides: step of the window.
    negative: whether it may crop, or look back only ('CAUSAL').
  """
  names = ('SAME', 'SAME_LOWER', 'VALID', *(('CAUSAL', *BORDERS) if negative else ()))
  expected = (
    f'{", ".join(map(repr, names))}, an integer, or one (low, high) pair for each spatial dimension'
  )
  if isinstance(padding, str):
    name = padding.upper()
    if name not in names:
      raise ArgumentError(f'padding must be {expected}; got {padding!r}')
    if name == 'CAUSAL':
      if len(spatial) != 1:
        raise ArgumentError(
          f"padding 'CAUSAL' needs one spatial dimension, the input has {len(spatial)}"
        )
      return ((reach[0] - 1, 0),)
    return tuple(lax.padtype_to_pads(spatial, reach, strides, name))
  entries = (padding,) * len(spatial) if is_integer(padding) else padding
  if not _is_sequence(entries) or len(entries) != len(spatial):
    raise ArgumentError(f'padding must be {expected} (here {len(spatial)}); got {padding!r}')
  pairs = tuple((e, e) if is_integer(e) else e for e in entries)
  if not all(_is_sequence(e) and len(e) == 2 and all(map(is_integer, e)) for e in pairs):
    raise ArgumentError(f'padding must be {expected}; got {padding!r}')
  if not negative and any(n < 0 for pair in pairs for n in pair):
    raise ArgumentError(f'padding must not be negative, got {padding!r}: crop the input instead')
  return tuple((int(low), int(high)) for low, high in pairs)


def as_floating(name: str, value: jax.typing.ArrayLike) -> jax.Array:
  """Returns `value` as an array; raises ArgumentError if its dtype is not floating."""
  array = jnp.asarray(value)
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ArgumentError(
      f'{name} must be floating, got dtype {array.dtype}: convert it, e.g. '
      f'{name}.astype(jnp.float32)'
    )
  return array


def check_images(x: jax.Array) -> tuple[int, ...]:
  """Returns the spatial shape of `x: [batch, *spatial, features]`: one to three dimensions."""
  if not 3 <= x.ndim <= 5:
    raise ArgumentError(
      f'x must be [batch, *spatial, features] with one to three spatial dimensions, got shape '
      f'{x.shape}' + (': add a batch dimension, x[None]' if x.ndim == 2 else '')
    )
  return x.shape[1:-1]


def pooled_rank(x: jax.Array, window_shape: int | Sequence[int]) -> int:
  """Returns the number of spatial dimensions that a window pools; `x` may have none before them."""
  if is_integer(window_shape):
    if x.ndim == 4:
      return 2
    raise ArgumentError(
      f'window_shape must have one entry for each spatial dimension, such as (2, 2), because x of '
      f'shape {x.shape} does not say how many it has; got {window_shape!r}'
    )
  rank = len(window_shape) if _is_sequence(window_shape) else 0
  if not 1 <= rank <= 3:
    raise ArgumentError(
      'window_shape must be an integer or a sequence of integers, one for each of one to three '
      f'spatial dimensions; got {window_shape!r}'
    )
  if x.ndim <= rank:
    raise ArgumentError(
      f'x must be [*batch, *spatial, features] with {rank} spatial dimensions for window_shape '
      f'{window_shape!r}, got shape {x.shape}'
    )
  return rank


def _check_kernel(x: jax.Array, kernel: jax.Array, groups: int) -> None:
  if kernel.ndim != x.ndim:
    raise ArgumentError(
      f'kernel must be [*window, in // feature_group_count, out] with {x.ndim - 2} window '
      f'dimensions to match x of shape {x.shape}, got shape {kernel.shape}'
    )
  if not is_integer(groups) or groups < 1:
    raise ArgumentError(f'feature_group_count must be a positive integer, got {groups!r}')
  features, out = x.shape[-1], kernel.shape[-1]
  if not out:
    raise ArgumentError(
      f'kernel of shape {kernel.shape} holds no kernels: the last entry is their number'
    )
  for name, size in ((f'the {features} input features', features), (f'the {out} kernels', out)):
    if size % groups:
      raise ArgumentError(f'feature_group_count {groups} does not divide {name}')
  if kernel.shape[-2] != features // groups or not features:
    raise ArgumentError(
      f'kernel of shape {kernel.shape} takes {kernel.shape[-2]} features in each group, but x of '
      f'shape {x.shape} with feature_group_count {groups} has {features // groups}'
    )


def check_center(
  kernel_shape: tuple[int, ...], input_dilation: int | Sequence[int] | None = 1
) -> None:
  """Checks that a patch has more than one value, and no zeros that an offset would not change."""
  if input_dilation is not None and any(d != 1 for d in np.ravel(input_dilation)):
    raise ArgumentError(
      f'center=True needs input_dilation=1, got {input_dilation!r}: an offset of the image would '
      'not change the zeros between the pixels'
    )
  if math.prod(kernel_shape[:-1]) == 1:
    raise ArgumentError(
      f'center=True needs at least two values in a patch. A kernel of shape {kernel_shape} has one '
      'position and one feature in each group, so every centred patch would be 0: use a larger '
      'window, fewer groups or center=False'
    )


def as_parameters(
  p: jax.typing.ArrayLike,
  q: jax.typing.ArrayLike,
  kernel_q: jax.typing.ArrayLike | None,
  out: int,
  dtype: jnp.dtype,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns p, q and kernel_q, checked, each a scalar or `[out]` of `dtype`."""
  power = as_scalar_or_features('p', p, out, dtype, positive=True)
  q = as_scalar_or_features('q', q, out, dtype, positive=False)
  if kernel_q is None:
    return power, q, q
  return power, q, as_scalar_or_features('kernel_q', kernel_q, out, dtype, positive=False)


def as_scalar_or_features(
  name: str, value: jax.typing.ArrayLike, out: int, dtype: jnp.dtype, *, positive: bool
) -> jax.Array:
  """Returns `value` as an array of `dtype`: a scalar, or `[out]` with one value for each kernel.

  Concrete values (Python numbers, NumPy arrays, untraced JAX arrays) must be finite, and greater
  than 0 if `positive`, else at least 0. Traced values are not checked.
  """
  array = jnp.asarray(value, dtype)
  if array.shape not in ((), (out,)):
    raise ArgumentError(
      f'{name} must be a scalar or [{out}] (one for each kernel), got {array.shape}'
    )
  # Checks `value` instead of `array`: under jit, converting a concrete value gives a tracer.
  if not any(isinstance(v, Tracer) for v in jax.tree.leaves(value)):
    known = np.asarray(value, dtype)
    if not np.all((known > 0 if positive else known >= 0) & (known < np.inf)):
      bound = 'greater than 0' if positive else 'at least 0'
      raise ArgumentError(f'{name} must be {bound} and finite, got {value}')
  return array


def common_dtype(*dtypes: jax.typing.DTypeLike) -> jnp.dtype:
  """Returns the dtype that `dtypes` promote to, even where JAX forbids implicit promotion."""
  with jax.numpy_dtype_promotion('standard'):
    return jnp.result_type(*dtypes)


def accumulation_dtype(*arrays: jax.Array) -> jnp.dtype:
  """Returns the dtype for norms and powers: float64 if any array is float64, else float32."""
  return common_dtype(*(a.dtype for a in arrays), jnp.float32)


def is_integer(value: object) -> TypeGuard[int]:
  """Returns whether `value` is an integer of Python or NumPy; a boolean is none."""
  return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
  return isinstance(value, Sequence) and not isinstance(value, str)
