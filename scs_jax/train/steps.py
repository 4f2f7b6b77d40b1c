"""One training step and one evaluation step: pure functions, to be jitted."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from scs_jax.data import augment
from scs_jax.train import averages, freeze, metrics, transfer
from scs_jax.train.accumulate import accumulated
from scs_jax.train.averages import Average

PyTree = Any
Batch = dict[str, jax.Array]
Objective = Callable[..., dict[str, jax.Array]]
_DROPOUT = 4  # folded into the keys of examples; augmentations use 0 to 3, mixup 5


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
  """What a training step changes.

  Attributes:
    params: nested dict of the learned arrays by path, e.g. `['scs_0']['kernel']`
      `[height, width, in, out]`. Kernels have the model's `param_dtype`; p and q are float32.
    statistics: nested dict of all other arrays of the model, e.g. `['norm']['mean']` `[features]`,
      float32. Empty for SCS networks.
    optimizer: state of the optax transformation; momenta have the shapes of `params`.
    average: what is evaluated, if the run averages its weights; else None.
  """

  params: PyTree
  statistics: PyTree
  optimizer: PyTree
  average: Average | None = None

  @property
  def evaluated(self) -> 'State | Average':
    """Where the `params` and `statistics` to evaluate are."""
    return self if self.average is None else self.average

  def to_dict(self) -> dict[str, PyTree]:
    """Returns plain dicts, so that files on disk do not depend on this class."""
    tree = {
      'params': self.params,
      'statistics': self.statistics,
      'optimizer': self.optimizer,
    }
    if self.average is not None:
      fields = dataclasses.fields(self.average)
      tree['ema'] = {field.name: getattr(self.average, field.name) for field in fields}
    return tree

  @classmethod
  def from_dict(cls, tree: dict[str, PyTree]) -> 'State':
    """Returns the state that `to_dict` made `tree` of."""
    average = Average(**tree['ema']) if 'ema' in tree else None
    return cls(tree['params'], tree['statistics'], tree['optimizer'], average)


@dataclasses.dataclass(frozen=True)
class Structure:
  """A model without its arrays.

  Attributes:
    training: graph of the model after `train()`.
    evaluating: graph of the model after `eval()`.
    randomness: nested dict of shapes of the model's streams of random keys, as dropout has them.
  """

  training: nnx.GraphDef
  evaluating: nnx.GraphDef
  randomness: PyTree

  def merge(
    self, params: PyTree, statistics: PyTree, *, train: bool = False, key: jax.Array | None = None
  ) -> nnx.Module:
    """Returns the model with these arrays.

    Args:
      params: nested dict, as `State.params`.
      statistics: nested dict, as `State.statistics`.
      train: whether it is in training mode.
      key: seeds the model's streams of random keys; None is a constant.
    """
    streams = _seeded(self.randomness, jax.random.key(0) if key is None else key)
    graph = self.training if train else self.evaluating
    return nnx.merge(graph, params, statistics, streams)


def split(model: nnx.Module) -> tuple[PyTree, PyTree, PyTree]:
  """Returns the nested dicts of parameters, of statistics, and of the streams of random keys."""
  params, streams, statistics = nnx.split(model, nnx.Param, nnx.RngState, ...)[1:]
  return (
    nnx.to_pure_dict(params),
    nnx.to_pure_dict(statistics),
    nnx.to_pure_dict(streams),
  )


def structure_of(build: Callable[[], nnx.Module], frozen: Sequence[str] = ()) -> Structure:
  """Returns the structure of the model that `build` makes; no array is computed.

  Args:
    build: makes the model.
    frozen: patterns of arrays that are not trained, for `freeze.matches`. A module whose
      statistics are all among them stays in evaluation mode, so that it uses them.
  """
  model = nnx.eval_shape(build)
  model.train()
  for path, module in nnx.iter_modules(model):
    own = [name for name, value in vars(module).items() if _is_statistic(value)]
    names = ('.'.join(map(str, (*path, name))) for name in own)
    if own and all(freeze.matches(name, frozen) for name in names):
      module.eval()
  training = nnx.graphdef(model)
  model.eval()
  return Structure(training, nnx.graphdef(model), split(model)[2])


def _is_statistic(value: Any) -> bool:
  return isinstance(value, nnx.Variable) and not isinstance(value, nnx.Param | nnx.RngState)


def first_state(
  build: Callable[[], nnx.Module],
  optimizer: optax.GradientTransformation,
  *,
  averaged: bool,
  given: dict[str, jax.Array] | None = None,
) -> State:
  """Returns the state before the first step.

  Args:
    build: makes the model with its first weights.
    optimizer: an optax transformation.
    averaged: whether the state has an `average`.
    given: arrays by name that take the place of the first ones, see `transfer`.
  """
  params, statistics, _ = split(build())
  if given is not None:
    params, statistics = (transfer.replaced(tree, given) for tree in (params, statistics))
  average = None
  if averaged:  # copies, because donated arrays need buffers of their own
    copied = jax.tree.map(jnp.copy, (params, statistics))
    average = Average(*copied, steps=jnp.zeros((), jnp.int32))
  return State(params, statistics, optimizer.init(params), average)


def make_train_step(
  structure: Structure,
  optimizer: optax.GradientTransformation,
  *,
  objective: Objective,
  augmentation: Callable[[jax.Array, jax.Array], jax.Array],
  mix: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
  label_smoothing: float,
  average: averages.Update | None,
  seed: int,
  accumulate_steps: int = 1,
  frozen: tuple[PyTree, PyTree] | None = None,
  gather: Callable[[PyTree], PyTree] = lambda params: params,
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
  """Returns the function that makes one training step.

  It takes the state and a batch of `image` `[batch, height, width, channels]` uint8, `label`,
  `epoch` and `index` `[batch]` int32. It returns the new state and the metrics of the batch before
  the step: those of `objective` and 'gradient_norm', float32 scalars.

  Args:
    structure: of the model.
    optimizer: an optax transformation.
    objective: one of `losses.OBJECTIVES`.
    augmentation: a function of keys `[batch]` and float images.
    mix: a function of keys, augmented images and labels, such as `mixup.mixup`; None is off.
    label_smoothing: share of the target spread over all classes.
    average: how weights are averaged; None if they are not.
    seed: of augmentation and dropout.
    accumulate_steps: parts of the batch that are differentiated one after the other.
    frozen: for each parameter and each statistic whether it keeps its value; None trains all.
    gather: makes split parameters whole on every device.
  """

  def loss_function(params, statistics, images, labels, key):
    if frozen is not None:  # nothing is computed for gradients that nobody uses
      params = keep(frozen[0], jax.lax.stop_gradient(params), params)
    model = structure.merge(gather(params), statistics, train=True, key=key)
    values = objective(model(images), images, labels, label_smoothing)
    values = {name: value.mean() for name, value in values.items()}
    return values['loss'], (split(model)[1], values)

  def gradient(params, statistics, images, labels, keys):
    dropout = jax.random.fold_in(keys[0], _DROPOUT)
    differentiate = jax.value_and_grad(loss_function, has_aux=True)
    (_, (statistics, values)), grads = differentiate(params, statistics, images, labels, dropout)
    return statistics, grads, values

  def train_step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
    # Keyed by (seed, epoch, index): an example's augmentation does not depend on its neighbours.
    keys = augment.example_keys(key_of(seed), batch['epoch'], batch['index'])
    images, labels = augmentation(keys, as_float(batch['image'])), batch['label']
    if mix is not None:
      images, labels = mix(keys, images, labels)
    statistics, grads, values = accumulated(
      gradient, accumulate_steps, state.params, state.statistics, images, labels, keys
    )
    updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    if frozen is not None:
      statistics = keep(frozen[1], state.statistics, statistics)
    averaged = state.average
    if average is not None and averaged is not None:
      averaged = average(averaged, params, statistics, optimizer_state)
      if frozen is not None:  # the average of equal values is equal to rounding only
        averaged.params = keep(frozen[0], params, averaged.params)
        averaged.statistics = keep(frozen[1], statistics, averaged.statistics)
    new = State(params, statistics, optimizer_state, averaged)
    return new, {**values, 'gradient_norm': optax.tree.norm(grads)}

  return train_step


def keep(frozen: PyTree, old: PyTree, new: PyTree) -> PyTree:
  """Returns `old` where `frozen` is true, and `new` elsewhere."""
  return jax.tree.map(lambda held, a, b: a if held else b, frozen, old, new)


def make_eval_step(
  structure: Structure,
  objective: Objective,
  gather: Callable[[PyTree], PyTree] = lambda params: params,
  *,
  with_outputs: bool = False,
) -> Callable[[PyTree, PyTree, Batch], Any]:
  """Returns the function that evaluates one batch.

  It takes parameters, statistics and a batch of `image`, `label` and `weight`, and returns
  `metrics.weighted_sums` of the objective.

  Args:
    structure: of the model.
    objective: one of `losses.OBJECTIVES`.
    gather: makes split parameters whole on every device.
    with_outputs: also returns what the model returns, with `label` and `weight` of the batch.
  """

  def eval_step(params: PyTree, statistics: PyTree, batch: Batch) -> Any:
    model = structure.merge(gather(params), statistics)
    images = as_float(batch['image'])
    outputs = model(images)
    values = objective(outputs, images, batch['label'])
    sums = metrics.weighted_sums(values, batch['weight'])
    return (sums, (outputs, batch['label'], batch['weight'])) if with_outputs else sums

  return eval_step


def key_of(seed: int | jax.Array) -> jax.Array:
  """Returns the random key of a seed below 2**64; no two seeds share one.

  Where JAX has no 64-bit integers, `jax.random.key` drops all but the last 32 bits of a seed.
  """
  if not isinstance(seed, int) or seed < 2**32:  # one that is traced has 32 bits
    return jax.random.key(seed)
  words = jnp.array([seed >> 32, seed % 2**32], jnp.uint32)
  return jax.random.wrap_key_data(words, impl='threefry2x32')


def as_float(images: jax.Array) -> jax.Array:
  """Returns uint8 images as float32 from 0 to 1."""
  return images.astype(jnp.float32) / 255


def _seeded(shapes: PyTree, key: jax.Array) -> PyTree:
  """Returns fresh streams of random keys for these shapes: each its own key, each count 0."""
  leaves, tree = jax.tree.flatten(shapes)
  fresh = [
    jax.random.split(jax.random.fold_in(key, i), leaf.shape)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    else jnp.zeros(leaf.shape, leaf.dtype)
    for i, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(tree, fresh)
