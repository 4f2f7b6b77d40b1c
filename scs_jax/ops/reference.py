"""Reference implementations of similarity and pooling, written for reading.

They materialise every patch with `lax.conv_general_dilated_patches`, at the highest precision, and
follow the definitions line by line. They take about `prod(window)` times the memory of the image
and are many times slower than the other methods.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from scs_jax.ops import arguments
from scs_jax.ops.arguments import Window
from scs_jax.ops.centering import deviations
from scs_jax.ops.convolution import LAYOUTS
from scs_jax.ops.scaling import in_own_units
from scs_jax.ops.sharpening import sharpen


def similarity(
  x: jax.Array,
  kernel: jax.Array,
  p: jax.Array,
  q: jax.Array,
  kernel_q: jax.Array,
  window: Window,
  groups: int,
  dtype: jnp.dtype,
  *,
  center: bool = False,
  mask: jax.Array | None = None,
) -> jax.Array:
  """Returns the sharpened cosine similarity. The arguments are already checked.

  Args:
    x: `[batch, *spatial, in]`.
    kernel: `[*window, in // groups, out]`.
    p: sharpening exponent, a scalar or `[out]`.
    q: added to the norm of the patch, a scalar or `[out]`.
    kernel_q: added to the norm of the kernel, a scalar or `[out]`.
    window: the resolved window.
    groups: number of groups that the features are split into.
    dtype: of all computations and of the result.
    center: whether the means of patch and kernel are subtracted. Outside the image is its mean.
    mask: shape of `kernel`, what each kernel sees of a patch; None is everything.

  Returns:
    `[batch, *output, out]`, `dtype`.
  """
  out = kernel.shape[-1]
  x = x.astype(dtype)
  if center:  # Padding then stands for the mean of the image.
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    x = deviations(grouped, (*range(1, x.ndim - 1), x.ndim)).reshape(x.shape)
  s = patches(x, window)  # [batch, *output, in, taps]
  features = kernel.size // out  # in // groups * taps
  s = s.reshape(*s.shape[:-2], groups, 1, features)  # [batch, *output, groups, 1, features]

  def in_order_of_patches(kernel):
    k = jnp.moveaxis(kernel.astype(dtype).reshape(-1, *kernel.shape[-2:]), 0, 1)
    k = k.reshape(features, out).T.reshape(groups, out // groups, features)
    return lax.expand_dims(k, range(s.ndim - 3))

  k = in_order_of_patches(kernel)
  if mask is not None:
    s = s * in_order_of_patches(mask)
  if center:
    s, k = (deviations(v, (v.ndim - 1,)) for v in (s, k))
  q, kernel_q = (jnp.broadcast_to(v, (out,)).reshape(k.shape[:-1]) for v in (q, kernel_q))
  (s, s_length), (k, k_length) = in_own_units(s, q), in_own_units(k, kernel_q)
  dot = (s * k).sum(-1)
  defined = (s_length > 0) & (k_length > 0)
  s_scale, k_scale = (1 / jnp.where(defined, length, 1) for length in (s_length, k_length))
  c = jnp.where(defined, dot * s_scale * k_scale, 0)
  c = c.reshape(*c.shape[:-2], out)
  return sharpen(c + lax.stop_gradient(jnp.clip(c, -1, 1) - c), p)


def abs_max_pool(
  x: jax.Array, window_shape: tuple[int, ...], strides: tuple[int, ...], padding: arguments.Padding
) -> jax.Array:
  """Equals `scs_jax.abs_max_pool` for `x: [batch, *spatial, features]`."""
  window = arguments.resolve_window(
    x.shape[1:-1], window_shape, strides, padding, shape_name='window_shape'
  )
  s = patches(x, window)  # [batch, *output, features, taps]
  inside = patches(jnp.ones_like(x), window)
  magnitude = jnp.where(inside > 0, jnp.abs(s), -1)
  largest = magnitude == magnitude.max(-1, keepdims=True)
  # Of the largest, the first positive value wins, or else the first negative one.
  winner = jnp.where(largest, jnp.sign(s), -2).argmax(-1, keepdims=True)
  return jnp.take_along_axis(s, winner, -1)[..., 0]


def patches(x: jax.Array, window: Window) -> jax.Array:
  """Returns every patch of `x: [batch, *spatial, in]`: `[batch, *output, in, taps]`."""
  flat = lax.conv_general_dilated_patches(
    x,
    window.shape,
    window.strides,
    window.padding,
    rhs_dilation=window.dilation,
    dimension_numbers=LAYOUTS[len(window.shape)],
    precision=lax.Precision.HIGHEST,
  )
  return flat.reshape(*flat.shape[:-1], x.shape[-1], math.prod(window.shape))
