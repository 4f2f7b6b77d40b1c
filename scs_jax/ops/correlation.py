"""The dot product of every patch with every kernel, by the fastest way there is."""

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import cpu
from scs_jax.ops.arguments import Window
from scs_jax.ops.convolution import convolve


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
    groups: how many groups the features are split into.
    method: 'convolution' is XLA's. 'shifts' adds a product of the whole shifted image for each
      position of the window. 'auto' is the convolution, or on CPU what `cpu.choose` picks.
    precision: of the products, as for `lax.conv_general_dilated`.
    dtype: of the sums and of the result.

  Returns:
    `[batch, *output, out]`.
  """
  settings = {'window': window, 'groups': groups, 'precision': precision, 'dtype': dtype}
  if method == 'convolution':
    return convolve(x, kernel, **settings)
  if method == 'shifts':
    return cpu.shift(x, kernel, **settings)
  on_cpu = cpu.choose(kernel.shape[-2], **settings)
  if on_cpu is None:
    return convolve(x, kernel, **settings)
  return lax.platform_dependent(
    x, kernel, cpu=on_cpu, default=lambda x, kernel: convolve(x, kernel, **settings)
  )
