"""The dot product of every patch with every kernel, dispatched by method and platform."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import cpu
from scs_jax.ops.arguments import Window
from scs_jax.ops.convolution import Settings, convolve


def correlate(
  x: jax.Array,
  kernel: jax.Array,
  window: Window,
  groups: int,
  *,
  method: str = 'auto',
  precision: lax.PrecisionLike = None,
  dtype: jnp.dtype,
) -> jax.Array:
  """Returns the dot product of every patch with every kernel.

  Args:
    x: `[batch, *spatial, in]`.
    kernel: `[*window, in // groups, out]`, same dtype as `x`.
    window: the resolved window.
    groups: number of groups that the features are split into.
    method: 'convolution', 'shifts', or 'auto'. 'auto' is the convolution on GPU and TPU; on CPU the
      shapes decide, see `scs_jax.ops.cpu`.
    precision: of the products, as for `lax.conv_general_dilated`.
    dtype: of the sums and of the result.

  Returns:
    `[batch, *output, out]`.
  """
  settings = Settings(window, groups, precision, dtype)
  if method == 'shifts':
    return cpu.shift_and_add(x, kernel, settings)
  on_cpu = cpu.choose(kernel.shape[-2], settings) if method == 'auto' else None
  if on_cpu is None:
    return convolve(x, kernel, settings)
  default = functools.partial(convolve, settings=settings)
  return lax.platform_dependent(x, kernel, cpu=on_cpu, default=default)
