"""The dot product of every patch with every kernel as XLA's convolution."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops.arguments import Window

# Dimension numbers for channels-last arrays, by number of spatial dimensions. The order is that of
# `lax.conv_general_dilated`: input, kernel, output.
LAYOUTS = {
  1: ('NHC', 'HIO', 'NHC'),
  2: ('NHWC', 'HWIO', 'NHWC'),
  3: ('NDHWC', 'DHWIO', 'NDHWC'),
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The arguments of a correlation other than image and kernel."""

  window: Window
  groups: int  # number of groups that the features are split into
  precision: lax.PrecisionLike  # of the products
  dtype: jnp.dtype  # of the sums and of the result


def convolve(x: jax.Array, kernel: jax.Array, settings: Settings) -> jax.Array:
  """Returns `[batch, *output, out]` for `x: [batch, *spatial, in]`.

  `kernel` is `[*window, in // groups, out]` and has the dtype of `x`.
  """
  window = settings.window
  return lax.conv_general_dilated(
    x,
    kernel,
    window.strides,
    window.padding,
    rhs_dilation=window.dilation,
    dimension_numbers=LAYOUTS[len(window.shape)],
    feature_group_count=settings.groups,
    precision=settings.precision,
    preferred_element_type=settings.dtype,
  )
