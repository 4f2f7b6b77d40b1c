"""XLA's convolution as the ops use it: channels last, sums in a wider dtype."""

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.arguments import Window

# In the order (input, kernel, output) that lax takes, by number of spatial dimensions.
LAYOUTS = {
  1: ('NHC', 'HIO', 'NHC'),
  2: ('NHWC', 'HWIO', 'NHWC'),
  3: ('NDHWC', 'DHWIO', 'NDHWC'),
}


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  *,
  window: Window,
  groups: int,
  precision: lax.PrecisionLike,
  dtype: jnp.dtype,
) -> jax.Array:
  """Returns the dot product of every patch with every kernel.

  Args:
    x: `[batch, *spatial, in]`.
    kernel: `[*window, in // groups, out]`, same dtype as `x`.
    window: the resolved window.
    groups: how many groups the features are split into.
    precision: of the products, as for `lax.conv_general_dilated`.
    dtype: of the sums and of the result.

  Returns:
    `[batch, *output, out]`.
  """
  return lax.conv_general_dilated(
    x,
    kernel,
    window.strides,
    window.padding,
    rhs_dilation=window.dilation,
    dimension_numbers=LAYOUTS[len(window.shape)],
    feature_group_count=groups,
    precision=precision,
    preferred_element_type=dtype,
  )
