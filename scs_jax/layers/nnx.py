"""Flax NNX modules. Arguments that `flax.nnx.Conv` also has keep its names."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from scs_jax.errors import check_known
from scs_jax.layers import parameters
from scs_jax.ops import abs_max_pool
from scs_jax.ops.arguments import Padding, as_floating

DEFAULT_KERNEL_INIT = nnx.initializers.lecun_normal()  # Kernels of norm 1, as in flax.nnx.Conv.


class SharpenedCosineSimilarity(nnx.Module):
  """Slides kernels over an image and returns their sharpened cosine similarity with every patch.

  The layer needs no activation, no bias and no normalisation layer after it, and accepts inputs of
  any scale.

  Attributes:
    kernel: `[*kernel_size, in_features // groups, kernels]`, `param_dtype`. `kernels` is
      `out_features`, or `out_features // groups` if they are shared.
    raw_p: `[kernels]` or `[]`, float32; p is its softplus. Absent if p is fixed.
    raw_q: `[]` or `[kernels]`, float32; q is its softplus. Absent if q is fixed.
    scale: `[]`, float32. Absent if `scale_init` is None.

  `raw_p`, `raw_q` and `scale` are float64 if `param_dtype` is float64.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> from flax import nnx
    >>> layer = scs_jax.nnx.SharpenedCosineSimilarity(3, 16, (5, 5), rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 32, 32, 3))).shape
    (1, 32, 32, 16)
  """

  raw_p: nnx.Param
  raw_q: nnx.Param

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = 1,
    *,
    padding: Padding = 'SAME',
    input_dilation: int | Sequence[int] | None = 1,
    kernel_dilation: int | Sequence[int] | None = 1,
    feature_group_count: int = 1,
    use_bias: bool = False,
    mask: jax.Array | None = None,
    p_mode: str = 'per_kernel',
    p_init: parameters.Init = 2.0,
    q_mode: str = 'shared',
    q_init: parameters.Init = 1e-3,
    kernel_q: float | None = None,
    center: bool = False,
    output: str = 'bounded',
    share_kernels: bool = False,
    scale_init: float | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    precision: lax.PrecisionLike = None,
    method: str = 'auto',
    kernel_init: parameters.Initializer = DEFAULT_KERNEL_INIT,
    promote_dtype: Callable[..., Any] | None = None,
    preferred_element_type: DTypeLike | None = None,
    kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
    rngs: nnx.Rngs,
  ):
    """Creates the parameters.

    Args:
      in_features: channels of the input.
      out_features: channels of the output.
      kernel_size: size of the window, one entry for each spatial dimension. An integer means one
        dimension.
      strides: step of the window; None is 1.
      padding: as for `flax.nnx.Conv`: 'SAME', 'SAME_LOWER', 'VALID', 'CIRCULAR', 'REFLECT',
        'CAUSAL', an integer, or an integer or (low, high) pair for each spatial dimension. Negative
        numbers crop the input.
      input_dilation: step between the pixels; zeros are put between them.
      kernel_dilation: step between the positions inside a window.
      feature_group_count: number of groups the features are split into.
      use_bias: False. A similarity has no bias.
      mask: shape of `kernel`, ones where the kernels see the patch. The norm of the patch counts
        what they see.
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
      promote_dtype: brings input and kernel to one dtype, as for `flax.nnx.Conv`; None is its rule.
      preferred_element_type: dtype of the output; None is that of the products.
      kernel_metadata: of the parameter `kernel`, such as its sharding.
      rngs: random streams; the layer draws three keys from 'params', whatever it learns.

    Raises:
      ArgumentError: a ValueError that names the argument, its value and the remedy.
    """
    self.kernel_size = parameters.kernel_sizes(kernel_size)
    shape = parameters.kernel_shape(
      self.kernel_size, in_features, out_features, feature_group_count, share_kernels, center
    )
    self.p_init = parameters.check_initial('p', p_init, p_mode, shape[-1])
    self.q_init = parameters.check_initial('q', q_init, q_mode, shape[-1])
    check_known('output', output, parameters.OUTPUTS)
    parameters.check_no_bias(use_bias)
    self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype), **kernel_metadata)
    for name, init, mode in (('raw_p', self.p_init, p_mode), ('raw_q', self.q_init, q_mode)):
      # A fixed p or q draws a key too, so the initial weights of later layers do not depend on it.
      key = rngs.params()
      if mode != 'fixed':
        initialise = parameters.raw_initializer(init)
        value = initialise(key, parameters.raw_shape(mode, shape[-1]), param_dtype)
        setattr(self, name, nnx.Param(value))
    if scale_init is not None:
      self.scale = nnx.Param(parameters.initial_scale(scale_init, param_dtype))
    # Attributes are compared and hashed, so they are plain numbers and tuples.
    self.in_features, self.out_features = int(in_features), int(out_features)
    self.strides, self.padding = parameters.plain(strides), parameters.plain(padding)
    self.input_dilation = parameters.plain(input_dilation)
    self.kernel_dilation = parameters.plain(kernel_dilation)
    self.mask = mask
    self.feature_group_count, self.share_kernels = int(feature_group_count), share_kernels
    self.p_mode, self.q_mode = p_mode, q_mode
    self.kernel_q, self.center = kernel_q, center
    self.output, self.scale_init = output, scale_init
    self.dtype, self.param_dtype = dtype, param_dtype
    self.promote_dtype, self.preferred_element_type = promote_dtype, preferred_element_type
    self.precision, self.method = precision, method

  @property
  def p(self) -> float | jax.Array:
    """The exponent: a number, `[]` or `[kernels]`."""
    if self.p_mode == 'fixed':
      return parameters.fixed(self.p_init)
    return parameters.positive(self.raw_p[...])

  @property
  def q(self) -> float | jax.Array:
    """The constant added to the norms: a number, `[]` or `[kernels]`."""
    if self.q_mode == 'fixed':
      return parameters.fixed(self.q_init)
    return parameters.positive(self.raw_q[...])

  def __call__(self, x: jax.Array, out_sharding: Any = None) -> jax.Array:
    """Returns `[*batch, *spatial', out_features]`.

    Args:
      x: `[*batch, *spatial, in_features]`, floating.
      out_sharding: of the output on a mesh with explicit axes, as for `flax.nnx.Conv`; None leaves
        it to JAX.
    """
    with jax.named_scope('scs'):
      y = parameters.similarity(
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
      return y if out_sharding is None else jax.sharding.reshard(y, out_sharding)

  def _operands(self, x: jax.Array) -> tuple:
    """Returns input, kernel, p, q and scale as the ops take them."""
    x, kernel = as_floating('x', x), self.kernel[...]
    if self.promote_dtype is None:
      x, kernel = parameters.promoted(x, kernel, self.dtype)
    else:
      x, kernel, _ = self.promote_dtype((x, kernel, None), dtype=self.dtype)
    return x, kernel, self.p, self.q, None if self.scale_init is None else self.scale[...]


class SharpenedCosineDense(SharpenedCosineSimilarity):
  """Compares vectors with kernels: the layer without a window, as `flax.nnx.Linear` is of Conv.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> from flax import nnx
    >>> layer = scs_jax.nnx.SharpenedCosineDense(64, 10, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((32, 64))).shape
    (32, 10)
  """

  def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any):
    """Creates the parameters; `kernel` is `[in_features // groups, kernels]`.

    Args:
      in_features: size of a vector.
      out_features: number of kernels.
      rngs: random streams; the layer draws three keys from 'params', whatever it learns.
      **options: those of `SharpenedCosineSimilarity` that need no window: `feature_group_count`,
        `mask`, those of p, q, scale and output, `center`, dtypes and `kernel_init`.

    Raises:
      ArgumentError: a ValueError that names the argument, its value and the remedy.
    """
    super().__init__(in_features, out_features, (), rngs=rngs, **options)


class SharpenedCosineTranspose(SharpenedCosineSimilarity):
  """Enlarges images by `scs_jax.sharpened_cosine_transpose`, as `flax.nnx.ConvTranspose` does.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> from flax import nnx
    >>> layer = scs_jax.nnx.SharpenedCosineTranspose(16, 8, (3, 3), strides=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 7, 7, 16))).shape
    (1, 14, 14, 8)
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    *,
    rngs: nnx.Rngs,
    **options: Any,
  ):
    """Creates the parameters; `kernel` is `[*kernel_size, in_features, out_features]`.

    Args:
      in_features: channels of the input.
      out_features: channels of the output.
      kernel_size: size of the window, one entry for each spatial dimension.
      strides: factor by which the image grows; None is 1.
      rngs: random streams; the layer draws three keys from 'params', whatever it learns.
      **options: those of `SharpenedCosineSimilarity` that have a meaning here: `padding`, as for
        `flax.nnx.ConvTranspose` ('SAME', 'VALID', an integer or pairs), `kernel_dilation`, those of
        p, q and scale, dtypes, `precision` and `kernel_init`.

    Raises:
      ArgumentError: a ValueError that names the argument, its value and the remedy.
    """
    parameters.check_transposes(options)
    super().__init__(in_features, out_features, kernel_size, strides, rngs=rngs, **options)

  def __call__(self, x: jax.Array, out_sharding: Any = None) -> jax.Array:
    """Returns `[*batch, *spatial', out_features]` for `x: [*batch, *spatial, in_features]`."""
    with jax.named_scope('scs'):
      y = parameters.transposed(
        *self._operands(x),
        kernel_q=self.kernel_q,
        strides=self.strides,
        padding=self.padding,
        kernel_dilation=self.kernel_dilation,
        precision=self.precision,
      )
      return y if out_sharding is None else jax.sharding.reshard(y, out_sharding)


class AbsMaxPool(nnx.Module):
  """Keeps the value of largest magnitude in every window; `strides=None` is stride 1.

  Args:
    window_shape: size of the window, one entry for each spatial dimension. For an input with four
      dimensions an integer means a square window.
    strides: step of the window; None is 1, as in `flax.nnx.max_pool`.
    padding: 'SAME', 'VALID', an integer, or a (low, high) pair for each spatial dimension.

  Example:
    >>> import jax.numpy as jnp
    >>> import scs_jax
    >>> scs_jax.nnx.AbsMaxPool((2, 2), strides=(2, 2))(jnp.ones((1, 8, 8, 3))).shape
    (1, 4, 4, 3)
  """

  def __init__(
    self,
    window_shape: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = 'VALID',
  ):
    self.window_shape, self.strides = parameters.plain(window_shape), parameters.plain(strides)
    self.padding = parameters.plain(padding)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `[*batch, *spatial', features]` for `x: [*batch, *spatial, features]`."""
    return abs_max_pool(x, self.window_shape, self.strides, self.padding)
