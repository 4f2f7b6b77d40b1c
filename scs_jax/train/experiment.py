"""Builds data, model, optimizer and steps from a config. Nothing else does."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from scs_jax import data, models
from scs_jax.data import augment
from scs_jax.data.examples import check_names
from scs_jax.errors import ArgumentError
from scs_jax.train import averages, freeze, losses, metrics, optim, sharding, steps, transfer
from scs_jax.train import config as configuration
from scs_jax.train.config import Config
from scs_jax.train.keys import MAY_CHANGE
from scs_jax.train.mixup import mixup
from scs_jax.train.steps import State
from scs_jax.workdir import buckets, is_bucket


class Experiment:
  """Everything that a config describes, built from it. It trains nothing by itself.

  Data and model are made when they are first used, so that an evaluation does not load training
  images.

  Args:
    config: complete, as `scs_jax.train.config.default` or a file of `configs/` returns it.
    train: examples to train on, instead of those that the config names. `config.data.name` becomes
      'examples', so that no later run takes others for them.
    test: examples to evaluate on, likewise.
    sizes: `input_shape` and `num_classes`, to build the model without any data set.

  Attributes:
    config: a copy of the given one. It gets the names of the classes when data is loaded.
    objective: maps outputs, images and labels to metrics per example, see `losses.OBJECTIVES`.
    best_metric: the metric that ranks checkpoints; higher is better.
    average: how a step averages the weights that are evaluated; None evaluates the last ones.

  Raises:
    ArgumentError: a value of the config cannot work; the message names its key.

  Example:
    >>> from scs_jax.train import Experiment, config
    >>> settings = config.default()
    >>> settings.data.name = 'fake'
    >>> settings.model.stack = ({'kind': 'scs', 'features': 4}, {'kind': 'head'})
    >>> experiment = Experiment(settings)
    >>> experiment.sizes, experiment.total_steps
    ({'input_shape': (32, 32, 3), 'num_classes': 10}, 120)
  """

  def __init__(
    self,
    config: Config,
    *,
    train: data.Examples | None = None,
    test: data.Examples | None = None,
    sizes: Mapping[str, Any] | None = None,
  ):
    configuration.check(config)
    self.config = config.copy_and_resolve_references()
    self.objective = losses.OBJECTIVES[config.objective]
    self.best_metric = losses.BEST[config.objective]
    amounts = {name: value for name, value in config.augment.items() if name != 'mixup'}
    self._augmentation = augment.make(**amounts)
    self.average = averages.of(config.optimizer.name, config.ema_decay)
    self._data_name = config.data.name
    if train is not None:
      self.config.data.name = data.GIVEN
      # A test set may have no example of the last classes, and need not repeat their names.
      if test is not None and test.class_names is None and test.num_classes <= train.num_classes:
        test = dataclasses.replace(
          test, num_classes=train.num_classes, class_names=train.class_names
        )
    # What is given takes the place of the cached property of that name.
    given = {'train_set': train, 'eval_set': test, 'sizes': sizes}
    self.__dict__.update({name: value for name, value in given.items() if value is not None})
    for examples in (train, test):
      if examples is not None:
        self._keep_names(examples)

  @property
  def identity(self) -> tuple[str, tuple[str, ...], str]:
    """What a workdir stores to recognise its run.

    The config as JSON, the first words of keys that a resumed run may change, and the defaults.
    """
    defaults = configuration.default(self.config.model.name)
    return (
      configuration.to_json(self.config),
      MAY_CHANGE,
      configuration.to_json(defaults),
    )

  # ------------------------------------------------------------------------------------- Data

  @property
  def name(self) -> str:
    """Model and data set, for messages."""
    return f'{self.config.model.name} on {self.config.data.name}'

  @functools.cached_property
  def train_set(self) -> Any:
    """The examples to train on: `data.Examples`, or `data.records.Records` if they are streamed."""
    return self._load(self.config.data.train_split)

  @functools.cached_property
  def eval_set(self) -> Any:
    """The examples to evaluate on, likewise."""
    return self._load(self.config.data.eval_split)

  def _load(self, split: str) -> Any:
    names = ('data_dir', 'resolution', 'channels', 'workers', 'skip_bad_records')
    settings = {name: self.config.data[name] for name in names}
    home = settings['data_dir'] or os.environ.get('TFDS_DATA_DIR', '')
    if is_bucket(home) and self._data_name not in data.EMBEDDED and ':' not in self._data_name:
      buckets.check_reached('data.data_dir', home)
    examples = data.load(self._data_name, split, **settings)
    self._keep_names(examples)
    return examples

  def _keep_names(self, examples: Any) -> None:
    """Takes the names of the classes into the config, unless it has some."""
    names = self.config.data.class_names
    if names is None:
      self.config.data.class_names = examples.class_names
    else:
      check_names(names, examples.num_classes)

  @property
  def class_names(self) -> tuple[str, ...] | None:
    """The names of the classes in the order of their labels.

    None if the classes have none, or if the names are not in the config and no data is loaded.
    """
    return self.config.data.class_names

  def example(self) -> tuple[np.ndarray, str]:
    """Returns an image to show, `[height, width, channels]` from 0 to 1, and its class.

    It is the first of the evaluation set.
    """
    batches = data.evaluation_batches(self.eval_set, 1)
    rows = next(rows for rows in batches if rows['weight'][0])  # not one that was left out
    label = int(rows['label'][0])
    name = self.class_names[label] if self.class_names else f'class {label}'
    return rows['image'][0].astype(np.float32) / 255, name

  def train_batches(self) -> Any:
    """Returns the endless iterator over this host's rows: `data.batches.TrainBatches`.

    Raises:
      ArgumentError: images or classes are not those of the evaluation set.
    """
    for what, ours, theirs in (
      ('images of shape', tuple(self.train_set.image_shape), tuple(self.sizes['input_shape'])),
      ('the number of classes', self.train_set.num_classes, self.sizes['num_classes']),
      ('the classes', self.train_set.class_names, self.eval_set.class_names),
    ):
      if ours != theirs:
        raise ArgumentError(
          f'{self.name}: training has {what} {ours}, evaluation {theirs}. Make them the same'
        )
    return data.train_batches(
      self.train_set, self.config.batch_size, seed=self.config.seed, **_host()
    )

  # ------------------------------------------------------------------------------------ Length

  @property
  def steps_per_epoch(self) -> float:
    """Steps in which every training example is seen once; a fraction if batches span epochs."""
    return self.train_set.size / self.config.batch_size

  @property
  def total_steps(self) -> int:
    """Steps of the whole training.

    Raises:
      ArgumentError: there would be more than JAX's counters hold.
    """
    total = self.config.total_epochs * self.steps_per_epoch
    if total >= 2**31:
      raise ArgumentError(
        f'total_epochs={self.config.total_epochs} of {self.train_set.size} examples are '
        f'{total:.3g} steps, more than a counter of 32 bits holds: train less'
      )
    return max(1, round(total))

  # ------------------------------------------------------------------------------------- Model

  @functools.cached_property
  def sizes(self) -> dict[str, Any]:
    """What a model must know of its data set.

    `input_shape`, `(height, width, channels)` of one image, and `num_classes`.
    """
    shape = tuple(self.eval_set.image_shape)
    if self.config.objective == 'classification' and self.eval_set.num_classes < 2:
      raise ArgumentError(
        f'data.name={self.config.data.name!r} has one class only, so there is nothing to classify: '
        "add a class, or set objective='reconstruction'"
      )
    return {'input_shape': shape, 'num_classes': self.eval_set.num_classes}

  def model(self) -> nnx.Module:
    """Returns the model with its first weights, in training mode."""
    rngs = nnx.Rngs(steps.key_of(self.config.seed))
    return models.build(**self.config.model.to_dict(), **self.sizes, rngs=rngs)

  @functools.cached_property
  def structure(self) -> steps.Structure:
    """The model without its arrays."""
    return steps.structure_of(self.model, () if self.frozen is None else self.config.freeze)

  @functools.cached_property
  def weight_shapes(self) -> tuple[Any, Any]:
    """Shapes of the parameters and of the statistics, nested dicts."""
    return jax.eval_shape(lambda: steps.split(self.model())[:2])

  @functools.cached_property
  def frozen(self) -> tuple[Any, Any] | None:
    """For each parameter and each statistic whether it keeps its value; None if all are trained.

    Raises:
      ArgumentError: a pattern of `config.freeze` matches nothing, or nothing is left to train.
    """
    return freeze.masks(self.config.freeze, *self.weight_shapes) if self.config.freeze else None

  @functools.cached_property
  def transferred(self) -> transfer.Transferred | None:
    """The weights that `config.init_from` gives, as far as they fit; None if there are none.

    Raises:
      ArgumentError: there is no such workdir, network or file, or nothing in it fits.
      scs_jax.workdir.CheckpointError: a checkpoint is damaged.
    """
    source = self.config.init_from
    return None if source is None else transfer.take(source, *self.weight_shapes)

  def check_shapes(self) -> None:
    """Traces augmentation and model once; nothing is computed.

    Raises:
      ArgumentError: the images are too small for the augmentation, or the model does not return
        what the objective needs. Exceptions of the model are raised as they are.
    """
    shape, name = tuple(self.sizes['input_shape']), self.config.model.name
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    jax.eval_shape(lambda x: self._augmentation(jax.random.split(jax.random.key(0), 1), x), images)
    apply = lambda params, statistics, x: self.structure.merge(params, statistics)(x)
    found = jax.eval_shape(apply, *self.weight_shapes, images)
    wanted = losses.output_shape(self.config.objective, shape, self.sizes['num_classes'])
    if getattr(found, 'shape', None) != (1, *wanted):
      returned = f'{found.shape[1:]}' if hasattr(found, 'shape') else type(found).__name__
      raise ArgumentError(
        f'model.name={name!r} returns {returned} for each image of {self.config.data.name!r}, but '
        f'objective={self.config.objective!r} needs {wanted}: change the model or the objective'
      )

  def model_of(self, state: State) -> nnx.Module:
    """Returns the model that `state` is evaluated as, in evaluation mode."""
    return self.structure.merge(state.evaluated.params, state.evaluated.statistics)

  # --------------------------------------------------------------------------------- Optimizer

  @functools.cached_property
  def optimizer(self) -> optax.GradientTransformation:
    """The optax transformation with its schedules."""
    optimizer = optim.make(self.total_steps, **self.config.optimizer.to_dict())
    if self.frozen is None:
      return optimizer
    return optax.transforms.selective_transform(optimizer, freeze_mask=self.frozen[0])

  @functools.cached_property
  def learning_rate(self) -> optim.Schedule:
    """The learning rate, a function of the step."""
    return optim.make_schedule(self.total_steps, **self.config.optimizer.schedule)

  # ------------------------------------------------------- Shapes first, then shardings, then steps

  def mesh(self) -> Mesh:
    """Returns the mesh of all devices; raises ArgumentError if they do not fit."""
    return sharding.make_mesh(**self.config.mesh)

  def _make_state(self, given: dict[str, Any] | None = None) -> State:
    averaged = self.average is not None
    return steps.first_state(self.model, self.optimizer, averaged=averaged, given=given)

  @functools.cached_property
  def state_shapes(self) -> State:
    """The state with a `jax.ShapeDtypeStruct` for every array."""
    return jax.eval_shape(self._make_state)

  def first_state(self, mesh: Mesh) -> State:
    """Returns the state before the first step; each array is created with its sharding.

    Raises:
      ArgumentError: as `transferred`.
    """
    shardings = sharding.state_shardings(mesh, self.state_shapes)
    make = jax.jit(self._make_state, out_shardings=shardings)
    return make() if self.transferred is None else make(self.transferred.arrays)

  def abstract_state(self, mesh: Mesh) -> State:
    """Returns `state_shapes` with the sharding of every array, as a checkpoint restores it."""
    shardings = sharding.state_shardings(mesh, self.state_shapes)
    with_sharding = lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    return jax.tree.map(with_sharding, self.state_shapes, shardings)

  def train_step_function(
    self, gather: Callable[[Any], Any] = lambda params: params, seed: Any = None
  ) -> Callable:
    """Returns the pure function of state and batch that `train_step` compiles.

    `seed` may be traced; None is that of the config.
    """
    alpha, classes = self.config.augment.mixup, self.sizes['num_classes']
    return steps.make_train_step(
      self.structure,
      self.optimizer,
      objective=self.objective,
      augmentation=self._augmentation,
      mix=functools.partial(mixup, alpha=alpha, num_classes=classes) if alpha else None,
      label_smoothing=self.config.label_smoothing,
      average=self.average,
      seed=self.config.seed if seed is None else seed,
      accumulate_steps=self.config.accumulate_steps,
      frozen=self.frozen,
      gather=gather,
    )

  def train_step(self, mesh: Mesh) -> Callable[[State, steps.Batch], tuple[State, dict]]:
    """Returns the jitted training step; it donates the state it is given.

    Raises:
      ArgumentError: the batch size does not fit the devices.
    """
    self.check_shapes()
    config = self.config
    parts = sharding.parts(config.accumulate_steps, config.augment.mixup)
    sharding.check_batch(mesh, config.batch_size, parts)
    shardings = sharding.state_shardings(mesh, self.state_shapes)
    return jax.jit(
      self.train_step_function(functools.partial(sharding.gather, mesh)),
      in_shardings=(shardings, sharding.batch_sharding(mesh)),
      out_shardings=(shardings, sharding.replicated(mesh)),
      donate_argnums=0,
    )

  def evaluation(
    self, mesh: Mesh, each: Callable[[Any, Any, Any], None] | None = None
  ) -> Callable[[Any, Any], dict[str, float]]:
    """Returns the function that evaluates parameters and statistics.

    It returns the means over all examples of `eval_set`: 'val/loss' and 'val/accuracy' or
    'val/psnr'.

    Args:
      mesh: of all devices.
      each: is given the outputs, labels and weights of every batch, those of all processes.
    """
    self.check_shapes()
    batch_size = min(self.config.eval_batch_size, self.eval_set.size)
    batch_size = -(-batch_size // mesh.size) * mesh.size  # full devices
    gather = functools.partial(sharding.gather, mesh)
    step = jax.jit(
      steps.make_eval_step(self.structure, self.objective, gather, with_outputs=each is not None),
      out_shardings=sharding.replicated(mesh),
    )

    def evaluate(params: Any, statistics: Any) -> dict[str, float]:
      sums: Any = None
      for rows in data.evaluation_batches(self.eval_set, batch_size, **_host()):
        more = step(params, statistics, sharding.to_global(mesh, rows))
        if each is not None:
          more, outputs = more
          each(*jax.tree.map(np.asarray, outputs))
        sums = more if sums is None else jax.tree.map(jnp.add, sums, more)
      return {f'val/{name}': value for name, value in metrics.means(sums).items()}

    return evaluate


def _host() -> Mapping[str, int]:
  """Which rows of a batch are this process's."""
  return {'process_index': jax.process_index(), 'process_count': jax.process_count()}
