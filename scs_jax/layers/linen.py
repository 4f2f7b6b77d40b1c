"""Flax Linen modules: the layers of `scs_jax.nnx`, with the same parameters and names."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import lax
from jax.typing import DTypeLike

from scs_jax.layers import parameters
from scs_jax.ops import abs_max_pool
from scs_jax.ops.arguments import Padding, as_floating


class SharpenedCosineSimilarity(linen.Module):
  """Slides kernels over an image and returns their sharpened cosine similarity with every patch.

  Its parameters are `kernel`, `raw_p`, `raw_q` and `scale`;
  `scs_jax.nnx.SharpenedCosineSimilarity` describes them.

  Attributes:
    features: channels of the output.
    kernel_size: size of the window, one entry for each spatial dimension. An integer means one
      dimension.
    strides: step of the window; None is 1.
    padding: as for `flax.linen.Conv`: 'SAME', 'SAME_LOWER', 'VALID', 'CIRCULAR', 'REFLECT',
      'CAUSAL', an integer, or an integer or (low, high) pair for each spatial dimension. Negative
      numbers crop the input.
    input_dilation: step between the pixels; zeros are put between them.
    kernel_dilation: step between the positions inside a window.
    feature_group_count: number of groups the features are split into.
    use_bias: False. A similarity has no bias.
    mask: shape of `kernel`, ones where the kernels see the patch. The norm of the patch counts what
      they see.
    p_mode: 'per_kernel' (one learned p for each kernel), 'shared' (one learned p) or 'fixed'.
    p_init: initial p, greater than 0; an array with one for each kernel, or an initializer.
    q_mode: like `p_mode`, for q.
    q_init: like `p_init`, for q. A fixed q may be 0.
    kernel_q: added to the norm of the kernel; None means q.
    center: whether the means of patch and kernel are subtracted: Pearson's correlation instead of
      the cosine. The output then does not change with the brightness of the image.
    output: 'bounded', 'unit' (unit size for unrelated patches, for deep networks) or 'b_cos'
      (times the norm of the patch), see `scs_jax.layers.parameters.similarity`.
    share_kernels: whether every group uses the same small bank of kernels, with its p and q.
    scale_init: initial value of a learned factor on the output; None means no factor.
    dtype: of the products and the output; None infers it from input and kernel.
    param_dtype: of the kernels.
    precision: of the products, see `jax.lax.Precision`.
    method: how the dot products are computed, see `sharpened_cosine_similarity`.
    kernel_init: initializer of the kernels.
    promote_dtype: brings input and kernel to one dtype, as for `flax.linen.Conv`; None is its rule.
    preferred_element_type: dtype of the output; None is that of the products.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> layer = scs_jax.linen.SharpenedCosineSimilarity(16, (5, 5))
    >>> images = jnp.ones((1, 32, 32, 3))
    >>> variables = layer.init(jax.random.key(0), images)
    >>> layer.apply(variables, images).shape
    (1, 32, 32, 16)
  """

  features: int
  kernel_size: int | Sequence[int]
  strides: int | Sequence[int] | None = 1
  padding: Padding = 'SAME'
  input_dilation: int | Sequence[int] | None = 1
  kernel_dilation: int | Sequence[int] | None = 1
  feature_group_count: int = 1
  use_bias: bool = False
  mask: jax.Array | None = None
  p_mode: str = 'per_kernel'
  p_init: parameters.Init = 2.0
  q_mode: str = 'shared'
  q_init: parameters.Init = 1e-3
  kernel_q: float | None = None
  center: bool = False
  output: str = 'bounded'
  share_kernels: bool = False
  scale_init: float | None = None
  dtype: DTypeLike | None = None
  param_dtype: DTypeLike = jnp.float32
  precision: lax.PrecisionLike = None
  method: str = 'auto'
  kernel_init: parameters.Initializer = linen.initializers.lecun_normal()
  promote_dtype: Callable[..., Any] | None = None
  preferred_element_type: DTypeLike | None = None

  @linen.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[*batch, *spatial', features]` for `x: [*batch, *spatial, in]`."""
    return parameters.similarity(
      *self._operands(x),
      output=self.output,
      share_kernels=self.share_kernels,
      feature_group_count=self.feature_group_count,
      mask=self.mask,
      kernel_q=self.kernel_q,
      center=self.center,
      strides=self.strides,
      padding=self.padding,
      input_dilation=self.input_dilation,
      kernel_dilation=self.kernel_dilation,
      method=self.method,
      precision=self.precision,
      preferred_element_type=self.preferred_element_type,
    )

  def _operands(self, x: jax.Array) -> tuple:
    """Returns input, kernel, p, q and scale as the ops take them."""
    x, size, scale_init = as_floating('x', x), self.kernel_size, self.scale_init
    parameters.check_no_bias(self.use_bias)
    shape = parameters.kernel_shape(
      parameters.kernel_sizes(size),
      x.shape[-1],
      self.features,
      self.feature_group_count,
      self.share_kernels,
      self.center,
    )
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    scale = None
    if scale_init is not None:
      scale = self.param('scale', lambda _: parameters.initial_scale(scale_init, self.param_dtype))
    p = self._learned_or_fixed('p', self.p_init, self.p_mode, shape[-1])
    q = self._learned_or_fixed('q', self.q_init, self.q_mode, shape[-1])
    if self.promote_dtype is None:
      x, kernel = parameters.promoted(x, kernel, self.dtype)
    else:
      x, kernel = self.promote_dtype(x, kernel, dtype=self.dtype)
    return x, kernel, p, q, scale

  def _learned_or_fixed(
    self, name: str, init: parameters.Init, mode: str, kernels: int
  ) -> float | jax.Array:
    initial = parameters.check_initial(name, init, mode, kernels)
    if mode == 'fixed':
      return parameters.fixed(initial)
    initialise = parameters.raw_initializer(initial)
    shape = parameters.raw_shape(mode, kernels)
    return parameters.positive(self.param(f'raw_{name}', initialise, shape, self.param_dtype))


class SharpenedCosineDense(SharpenedCosineSimilarity):
  """Compares vectors with kernels: the layer without a window, as `flax.linen.Dense` is of Conv.

  Attributes are those of `SharpenedCosineSimilarity`; `kernel` is `[in // groups, kernels]`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> layer, x = scs_jax.linen.SharpenedCosineDense(10), jnp.ones((32, 64))
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (32, 10)
  """

  kernel_size: int | Sequence[int] = ()


class SharpenedCosineTranspose(SharpenedCosineSimilarity):
  """Enlarges images by `scs_jax.sharpened_cosine_transpose`, as `flax.linen.ConvTranspose` does.

  Attributes are those of `SharpenedCosineSimilarity` that have a meaning here: no groups, shared
  kernels, masks or centring, and `padding` as for ConvTranspose. `strides` is the factor by which
  the image grows.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> layer = scs_jax.linen.SharpenedCosineTranspose(8, (3, 3), strides=2)
    >>> code = jnp.ones((1, 7, 7, 16))
    >>> layer.apply(layer.init(jax.random.key(0), code), code).shape
    (1, 14, 14, 8)
  """

  @linen.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[*batch, *spatial', features]` for `x: [*batch, *spatial, in]`."""
    parameters.check_transposes(vars(self))
    return parameters.transposed(
      *self._operands(x),
      kernel_q=self.kernel_q,
      strides=self.strides,
      padding=self.padding,
      kernel_dilation=self.kernel_dilation,
      precision=self.precision,
    )


class AbsMaxPool(linen.Module):
  """Keeps the value of largest magnitude in every window; `strides=None` is stride 1.

  Attributes:
    window_shape: size of the window, one entry for each spatial dimension. For an input with four
      dimensions an integer means a square window.
    strides: step of the window; None is 1, as in `flax.linen.max_pool`.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> pool = scs_jax.linen.AbsMaxPool((2, 2), strides=(2, 2))
    >>> pool.apply({}, jnp.ones((1, 8, 8, 3))).shape
    (1, 4, 4, 3)
  """

  window_shape: int | Sequence[int]
  strides: int | Sequence[int] | None = None
  padding: Padding = 'VALID'

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[*batch, *spatial', features]` for `x: [*batch, *spatial, features]`."""
    return abs_max_pool(x, self.window_shape, self.strides, self.padding)
