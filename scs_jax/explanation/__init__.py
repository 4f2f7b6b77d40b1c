"""Exact explanations: how much each pixel contributes to a logit."""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr

from scs_jax.errors import ArgumentError, UserError
from scs_jax.explanation import affine

__all__ = ['Explanation', 'explain']

TOLERANCE = 1e-4  # largest accepted error of completeness, relative to the largest logit


class Explanation(NamedTuple):
  """A logit of each image, as a sum over the values of its pixels.

  Attributes:
    contributions: `[batch, *spatial, channels]`, what each value of the image adds to the logit.
    constant: `[batch]`, what does not come from the image: the biases, carried to the logit.
    classes: `[batch]` int32, the classes that are explained.
    logits: `[batch, num_classes]`, all logits.

  The arrays are float32, or float64 for a network that computes in float64.
  """

  contributions: jax.Array
  constant: jax.Array
  classes: jax.Array
  logits: jax.Array

  @property
  def logit(self) -> jax.Array:
    """The logits that are explained: `[batch]`."""
    return jnp.take_along_axis(self.logits, self.classes[:, None], 1)[:, 0]

  @property
  def error(self) -> jax.Array:
    """How much the sum misses the logit by, relative to the image's largest logit: `[batch]`."""
    total = self.contributions.sum(range(1, self.contributions.ndim)) + self.constant
    largest = jnp.abs(self.logits).max(1)
    return jnp.abs(total - self.logit) / jnp.where(largest > 0, largest, 1)


def explain(
  model: nnx.Module, images: jax.typing.ArrayLike, classes: jax.typing.ArrayLike | None = None
) -> Explanation:
  r"""Writes a logit of each image as a sum over its pixels, exactly.

  A sharpened cosine similarity is a linear function of the patch, :math:`y = (s \cdot k)\,f`, whose
  factor :math:`f = |c|^{p-1} / ((\|s\| + q)(\|k\| + q))` depends on the patch too. With these
  factors held constant, and with the gates of magnitudes and ReLUs and the picks of pools, the
  whole network is affine in the image:

  .. math::
    \text{logit} = \sum_i W_i(x)\,x_i + \text{constant}

  The contribution of pixel value :math:`x_i` is :math:`W_i(x)\,x_i`. The sum is complete: it gives
  the logit up to rounding, for this image. It does not say what the logit of another image would
  be, because the factors change with it.

  Gradient × input, the usual explanation, fails for these networks. The output of SCS with q = 0
  does not change when the image is multiplied by t, so the logit is a homogeneous function of
  degree 0. By Euler's theorem, :math:`\sum_i x_i\,\partial f / \partial x_i = 0` for such a
  function: what gradient × input gives to the pixels always sums to nothing. The derivative of the
  norm cancels that of the dot product. Here the norm is held, so nothing cancels.

  The function reads the operations of the network, so it works for every `nnx.Module` that is
  made of linear layers, `scs_jax`'s layers and functions, magnitudes, ReLUs, pools, averages, sums
  of paths, normalisation with constant or held statistics, and products with gates. An attention
  weight is such a gate, and so is the factor of a GELU. It takes about as long as one gradient.

  Layers whose `dtype` is narrower than float32 are evaluated in float32, so the logits may differ
  from the network's own by its rounding. Products have the highest precision of the device.

  Args:
    model: maps images to logits `[batch, num_classes]`. BatchNorm must be in evaluation mode, see
      `nnx.Module.eval`; its shift belongs to the constant.
    images: `[batch, *spatial, channels]`, floating as the model takes them, or uint8, which is
      divided by 255.
    classes: whose logit is explained: one for all images, or `[batch]`. None means the predicted
      ones.

  Returns:
    The `Explanation`. `contributions.sum() + constant` equals the logit of each image; the relative
    error is at most 1e-4.

  Raises:
    ArgumentError: a ValueError that names the argument, its value and the remedy.
    UserError: the network is not affine even when all that is held, or the sum is not the logit.
      Under `jax.jit` the sum cannot be checked; see `Explanation.error`.

  References:
    Böhle, Fritz and Schiele, 2022: B-cos Networks: Alignment is All We Need for Interpretability.

  Example:
    >>> import jax
    >>> import scs_jax
    >>> from flax import nnx
    >>> layer = scs_jax.nnx.SharpenedCosineSimilarity(1, 4, (5, 5), rngs=nnx.Rngs(0))
    >>> head = nnx.Linear(4, 3, rngs=nnx.Rngs(1))
    >>> model = nnx.Sequential(layer, lambda x: abs(x).mean((1, 2)), head)
    >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1))
    >>> explanation = scs_jax.explain(model, images, classes=2)
    >>> explanation.contributions.shape
    (2, 8, 8, 1)
    >>> bool((explanation.error < 1e-4).all())
    True
  """
  if not isinstance(model, nnx.Module):
    raise ArgumentError(f'model must be an nnx.Module, got {model!r:.60}')
  x, wanted = _as_images(images), _as_classes(classes)
  if wanted is not None and wanted.shape not in ((), x.shape[:1]):
    raise ArgumentError(
      f'classes must be one class or one for each of the {x.shape[0]} images, got shape '
      f'{wanted.shape}'
    )
  with jax.default_matmul_precision('highest'):
    explanation = _explain(*nnx.split(model), x, wanted)
  if not isinstance(explanation.logits, Tracer):
    _check(explanation, x, wanted)
  return explanation


def _as_images(images: Any) -> jax.Array:
  x = images if isinstance(images, jax.Array) else np.asarray(images)
  if x.dtype == np.uint8:
    x = jnp.asarray(x, jnp.float32) / 255
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ArgumentError(f'images must be floating or uint8, got {x.dtype}; convert them')
  if x.ndim < 2 or not x.size:
    raise ArgumentError(f'images must be [batch, *spatial, channels], got shape {x.shape}')
  return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def _as_classes(classes: Any) -> jax.Array | None:
  if classes is None:
    return None
  found = classes if isinstance(classes, jax.Array) else np.asarray(classes)
  if not jnp.issubdtype(found.dtype, jnp.integer):
    raise ArgumentError(f'classes must be integers, got {classes!r:.60}')
  return jnp.asarray(found, jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def _explain(graph: Any, state: Any, images: jax.Array, classes: jax.Array | None) -> Explanation:
  jaxpr, weights = _trace(graph, state, images), jax.tree.leaves(state)

  def explained(images):
    (logits,) = affine.evaluate(jaxpr, [*weights, affine.Signal(images)])
    if isinstance(logits, affine.Held):
      raise UserError(
        'the model cannot be explained: its logits are not linear in the image, even with norms, '
        f'powers, gates and picks held, because of {logits.reason}'
      )
    if not isinstance(logits, affine.Signal):
      raise UserError('the model cannot be explained: its logits do not depend on the image')
    which = logits.value.argmax(-1).astype(jnp.int32) if classes is None else classes
    which = jnp.broadcast_to(which, images.shape[:1])
    pick = lambda values: jnp.take_along_axis(values, which[:, None], 1)[:, 0]
    constant = jnp.zeros_like(logits.value) if logits.constant is None else logits.constant
    return pick(logits.value), Explanation(images, pick(constant), which, logits.value)

  logit, pull, explanation = jax.vjp(explained, images, has_aux=True)
  (gradient,) = pull(jnp.ones_like(logit))
  return explanation._replace(contributions=images * gradient)


def _trace(graph: Any, state: Any, images: jax.Array) -> ClosedJaxpr:
  """Returns the jaxpr of the model, a function of its state and the images, in float32 at least."""
  drew = False

  def network(state, images):
    nonlocal drew
    model = nnx.merge(graph, state)
    modules: list[Any] = [module for _, module in nnx.iter_modules(model)]
    for module in modules:
      if _is_narrow(getattr(module, 'dtype', None)):
        module.dtype = jnp.float32
    variables = lambda kind: jax.tree.leaves(nnx.state(model, kind))
    changes = lambda before, kind: any(map(operator.is_not, before, variables(kind)))
    statistics, counts = variables(nnx.BatchStat), variables(nnx.RngCount)
    logits = model(images)
    drew = changes(counts, nnx.RngCount)
    if changes(statistics, nnx.BatchStat):
      raise UserError(
        'the model cannot be explained in training mode, because BatchNorm lets the images of a '
        'batch depend on each other; call model.eval() first'
      )
    return logits

  try:
    jaxpr, shapes = jax.make_jaxpr(network, return_shape=True)(state, images)
  except (TypeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise ArgumentError(
      f'the model does not take images of shape {images.shape}: {reason}'
    ) from error
  if drew and 'random_bits' in affine.operations(jaxpr):
    raise UserError(
      'the model cannot be explained in training mode, because it draws random numbers; call '
      'model.eval() first'
    )
  if getattr(shapes, 'shape', ())[:-1] != images.shape[:1]:
    raise ArgumentError(
      f'the model must return logits [batch, num_classes] for {images.shape[0]} images, got '
      f'{jax.tree.map(lambda leaf: leaf.shape, shapes)}'
    )
  return jaxpr


def _is_narrow(dtype: Any) -> bool:
  is_float = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
  return is_float and jnp.finfo(dtype).bits < 32


def _check(explanation: Explanation, images: jax.Array, classes: jax.Array | None) -> None:
  """Raises an error unless the explanation is one."""
  count = explanation.logits.shape[1]
  if classes is not None and ((classes < 0) | (classes >= count)).any():
    raise ArgumentError(f'classes must be from 0 to {count - 1}, got {classes}')
  for what, values in (('images', images), ('logits', explanation.logits)):
    finite = np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1)
    if not finite.all():
      raise ArgumentError(f'{what} must be finite; image {finite.argmin()} has NaN or infinity')
  error = np.asarray(explanation.error)
  if not (error <= TOLERANCE).all():
    i = error.argmax()
    size = np.abs(explanation.contributions[i]).sum()
    raise UserError(
      f'the model cannot be explained: contributions and constant miss the logit of image {i} by '
      f'{error[i]:.2g} of its largest logit; {TOLERANCE:g} is allowed. Do the images of a batch '
      'depend on each other, does the model round to less than float32, or do its '
      f'contributions, whose magnitudes add up to {size:.3g}, cancel?'
    )
