"""Masks: kernels that see a part of the patch only, as in a PixelCNN."""

import jax
import jax.numpy as jnp

from scs_jax.errors import ArgumentError
from scs_jax.ops.arguments import Window
from scs_jax.ops.correlation import correlate
from scs_jax.ops.derivatives import safe_sqrt
from scs_jax.ops.scaling import power_of_two


def as_mask(mask: jax.typing.ArrayLike, kernel: jax.Array, center: bool) -> jax.Array:
  """Returns the mask as an array of the kernel's dtype.

  Raises:
    ArgumentError: it does not have the shape of the kernel, or the kernel is centred.
  """
  array = jnp.asarray(mask, kernel.dtype)
  if array.shape != kernel.shape:
    raise ArgumentError(
      f'mask must have the shape of the kernel, {kernel.shape}, got {array.shape}'
    )
  if center:
    raise ArgumentError('mask needs center=False: the mean of a patch is that of the whole patch')
  return array


def masked_patch_norms(
  x: jax.Array, mask: jax.Array, window: Window, groups: int, dtype: jnp.dtype
) -> jax.Array:
  """Returns the norm of what each kernel sees of every patch: `[batch, *output, out]`.

  Args:
    x: `[batch, *spatial, in]`.
    mask: `[*window, in // groups, out]`, ones and zeros.
    window: the resolved window.
    groups: number of groups that the features are split into.
    dtype: of the result.
  """
  x = x.astype(dtype)
  unit = power_of_two(x, range(1, x.ndim))
  squares = correlate(
    jnp.square(x * (1 / unit)), mask.astype(dtype), window, groups, precision='highest', dtype=dtype
  )
  return safe_sqrt(squares) * unit
