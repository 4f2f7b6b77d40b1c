"""The recipe: one loop, the same on a laptop and on a pod.

The order never changes: restore, then again and again evaluate, checkpoint, next batch, step, and
look at the metrics of the step before. A step is looked at one step late so that the device never
waits for the host, and no checkpoint is written before every step it contains was looked at.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from scs_jax import data, models, pictures
from scs_jax.workdir.checkpoints import Checkpoints, SaveError
from scs_jax.data import augment
from scs_jax.workdir.metric_log import MetricLog, Rate
from scs_jax.errors import check_known
from scs_jax.train import losses, metrics, optim, sharding
from scs_jax.train.stopping import StopRequest
from scs_jax.train.watchdog import Watchdog
from scs_jax.workdir.claim import check_present, check_same_run, claim, folder, holds_run, is_bucket

State = dict[str, Any]  # params, statistics, optimizer and, if it is on, ema
Batch = dict[str, jax.Array]

# Keys of the config that a run may change when it goes on; any other would make it another run.
MAY_CHANGE = (
  'mesh', 'log_every_steps', 'keep_latest', 'keep_best', 'rollbacks', 'on_save_error',
  'stall_seconds',
)  # fmt: skip


class NonFiniteError(RuntimeError):
  """The loss or the gradient is not a number any more."""


def split_model(
  build: Callable[[], nnx.Module], optimizer: optax.GradientTransformation, *, averaged: bool
) -> tuple[nnx.GraphDef, Callable[[], State]]:
  """Returns the structure of the model that `build` makes, and the function that makes a state.

  The state has 'params', 'statistics', 'optimizer' and, if `averaged`, 'ema': the average of the
  first two and the number of 'steps' in it.
  """

  def make_state():
    params, statistics = map(nnx.to_pure_dict, nnx.split(build(), nnx.Param, ...)[1:])
    state = {'params': params, 'statistics': statistics, 'optimizer': optimizer.init(params)}
    if averaged:  # copies: donated beside the others, they need buffers of their own
      state['ema'] = jax.tree.map(jnp.copy, {'params': params, 'statistics': statistics})
      state['ema']['steps'] = jnp.zeros((), jnp.int32)
    return state

  return nnx.graphdef(nnx.eval_shape(build)), make_state


def make_train_step(
  graph: nnx.GraphDef,
  optimizer: optax.GradientTransformation,
  *,
  objective: Callable[..., dict[str, jax.Array]],
  augmentation: Callable[[jax.Array, jax.Array], jax.Array],
  label_smoothing: float,
  ema_decay: float | None,
  seed: int,
  gather: Callable[[Any], Any],
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
  """Returns the function that makes one training step, to be jitted.

  It takes the state and a batch of `image` `[batch, height, width, channels]` uint8, `label`,
  `epoch` and `index` `[batch]`, and returns the new state and the metrics of the batch before the
  step: those of `objective`, one of `losses.OBJECTIVES`, and 'gradient_norm'. `gather` makes split
  parameters whole.
  """

  def loss_function(params, statistics, images, labels):
    model = nnx.merge(graph, gather(params), statistics)
    values = objective(model(images, train=True), images, labels, label_smoothing)
    values = {name: value.mean() for name, value in values.items()}
    statistics = nnx.to_pure_dict(nnx.split(model, nnx.Param, ...)[2])
    return values['loss'], (statistics, values)

  def train_step(state, batch):
    # Keyed by (seed, epoch, index): what happens to an example does not depend on its neighbours.
    keys = augment.example_keys(jax.random.key(seed), batch['epoch'], batch['index'])
    images = augmentation(keys, as_float(batch['image']))
    gradient = jax.value_and_grad(loss_function, has_aux=True)
    (_, (statistics, values)), grads = gradient(
      state['params'], state['statistics'], images, batch['label']
    )
    updates, optimizer_state = optimizer.update(grads, state['optimizer'], state['params'])
    params = optax.apply_updates(state['params'], updates)
    new = {'params': params, 'statistics': statistics, 'optimizer': optimizer_state}
    if ema_decay is not None:
      # Statistics too: those of the last parameters are not those of averaged ones. The weights
      # decay**i of the steps so far sum to 1, so the first, random parameters have none.
      steps = state['ema']['steps'] + 1
      newest = (1 - ema_decay) / (1 - ema_decay**steps)
      averaged = {'params': params, 'statistics': statistics}
      average = {name: state['ema'][name] for name in averaged}
      new['ema'] = {**optax.incremental_update(averaged, average, newest), 'steps': steps}
    return new, {**values, 'gradient_norm': optax.tree.norm(grads)}

  return train_step


def make_eval_step(
  graph: nnx.GraphDef,
  objective: Callable[..., dict[str, jax.Array]],
  gather: Callable[[Any], Any],
) -> Callable[[State, Batch], dict[str, jax.Array]]:
  """Returns the function that evaluates a batch of `image`, `label` and `weight`, to be jitted.

  It uses the averaged parameters if there are any, and returns `metrics.weighted_sums`.
  """

  def eval_step(state, batch):
    evaluated = _evaluated(state)
    model = nnx.merge(graph, gather(evaluated['params']), evaluated['statistics'])
    images = as_float(batch['image'])
    values = objective(model(images, train=False), images, batch['label'])
    return metrics.weighted_sums(values, batch['weight'])

  return eval_step


def as_float(images: jax.Array) -> jax.Array:
  """Returns uint8 images as float32 from 0 to 1."""
  return images.astype(jnp.float32) / 255


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
  """Trains as `config` says, or goes on with the run that `workdir` holds.

  Args:
    config: complete, see `configs/`.
    workdir: gets `config.json`, `metrics.jsonl`, TensorBoard events, `checkpoints/`, `pictures/`.

  Returns:
    The metrics of the last evaluation, 'val/loss' and 'val/accuracy' or 'val/psnr'.

  Raises:
    ValueError: something in the config cannot work, or `workdir` holds a run of another config.
    NonFiniteError: loss or gradient became NaN or infinite; the last good checkpoint stays.
    scs_jax.workdir.WorkdirError: another process uses `workdir`, or it was removed.
    scs_jax.checkpoint.CheckpointError: a checkpoint could not be written, or none is intact.
  """
  _check_ranges(config)
  # ------------------------------------------------------------------------------------- Data
  train_set, eval_set = _load(config)
  train_batches = data.train_batches(train_set, config.batch_size, seed=config.seed, **_host())
  steps_per_epoch = train_set.size / config.batch_size
  total_steps = max(1, round(config.total_epochs * steps_per_epoch))
  eval_period = config.eval_every_epochs * steps_per_epoch
  save_period = config.save_every_epochs * steps_per_epoch

  # ------------------------------------------------------------- Shapes first, then shardings
  mesh = sharding.make_mesh(**config.mesh)
  sharding.check_batch(mesh, config.batch_size)
  optimizer = optim.make(total_steps, **config.optimizer.to_dict())
  learning_rate = optim.make_schedule(total_steps, **config.optimizer.schedule)
  graph, make_state = _make_model(config, train_set, optimizer)
  objective = losses.OBJECTIVES[config.objective]
  state_shapes = jax.eval_shape(make_state)
  shardings = sharding.state_shardings(mesh, state_shapes)

  train_step = jax.jit(
    make_train_step(
      graph,
      optimizer,
      objective=objective,
      augmentation=augment.make(**config.augment),
      label_smoothing=config.label_smoothing,
      ema_decay=config.ema_decay,
      seed=config.seed,
      gather=functools.partial(sharding.gather, mesh),
    ),
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
    donate_argnums=0,
  )
  evaluate = _make_evaluate(graph, objective, mesh, shardings, eval_set, config.eval_batch_size)

  # ---------------------------------------------------------------------------------- Restore
  workdir = folder(workdir)
  with (
    claim(workdir, config.to_json_best_effort(indent=2), MAY_CHANGE),
    Checkpoints(
      workdir / 'checkpoints',
      keep_latest=config.keep_latest,
      keep_best=config.keep_best,
      best_metric=losses.BEST[config.objective],
    ) as checkpoints,
    StopRequest() as stop,
    Watchdog(config.stall_seconds) as watchdog,
  ):
    wanted = _with_shardings(state_shapes, shardings)

    def restore_or_make() -> tuple[int, State, dict[str, Any]]:
      """Returns the step and the state to go on from, and what was saved beside them, if anything."""
      if (restored := checkpoints.restore(wanted)) is not None:
        return restored.step, restored.state, restored.extra
      return 0, jax.jit(make_state, out_shardings=shardings)(), {}

    start, state, saved = restore_or_make()
    values = saved.get('metrics', {})
    if saved:
      train_batches.restore(saved['iterator'])

    # ----------------------------------------------------------------------------------- Loop
    in_parts = is_bucket(workdir)
    with MetricLog(workdir, start=start, total_steps=total_steps, in_parts=in_parts) as log:
      log.say(_introduction(config, state_shapes['params'], mesh, start, total_steps))
      for skipped, reason in checkpoints.skipped.items():
        log.say(f'checkpoint of step {skipped} is damaged and was set aside: {reason}')
      rate, begun, first, rollbacks = Rate(), time.perf_counter(), start, config.rollbacks

      def look_at(step: int, step_metrics: dict[str, jax.Array], batch: str) -> None:
        """Checks the metrics of a step that was made before, and logs them if it is due."""
        seen = {f'train/{name}': float(value) for name, value in step_metrics.items()}
        if not np.isfinite([seen['train/loss'], seen['train/gradient_norm']]).all():
          raise NonFiniteError(
            f'step {step}: loss {seen["train/loss"]}, gradient norm {seen["train/gradient_norm"]}, '
            f'on {batch}; the last good checkpoint is that of step {checkpoints.latest_step()}. Use '
            'a lower learning rate, a larger q or optimizer.clip_norm, or skip such batches with '
            'rollbacks'
          )
        if step == start + 1:
          rate.restart()  # so that compilation does not count
        else:
          rate.count(config.batch_size)
        if step % config.log_every_steps == 0:
          check_present(workdir)
          log.write(step, {**seen, 'train/learning_rate': float(learning_rate(step - 1))})

      def save(step: int, extra: dict[str, Any]) -> None:
        """Starts a save; the second try is for a first one that only told that an earlier failed."""
        for _ in range(2):
          try:
            return checkpoints.save(step, state, extra)
          except SaveError as error:
            if config.on_save_error == 'stop':
              raise
            log.say(f'{error} Going on without it, as on_save_error says.')

      step, unseen = start, None  # unseen: the step before, its metrics and its batch
      while True:
        last, stopping = step == total_steps, stop.requested(step)
        evaluating = step > start and (last or _is_boundary(step, eval_period))
        saving = step > start and (last or bool(stopping) or _is_boundary(step, save_period))
        try:
          if (evaluating or saving) and unseen is not None:
            look_at(*unseen)
            unseen = None

          if evaluating:
            watchdog.alive(f'evaluating after step {step}')
            speed = rate.read()
            values = evaluate(state)
            check_present(workdir)
            log.write(step, {**values, **speed})
            epoch = step / steps_per_epoch
            log.say(f'epoch {epoch:6.2f}  step {step:6d}  {_numbers({**values, **speed})}')
            if guesses(values, train_set.num_classes):
              log.say(_GUESSES)

          if saving:
            watchdog.alive(f'saving step {step}')
            check_present(workdir)
            measured = values if evaluating else {}
            save(step, {'iterator': train_batches.state(), 'metrics': measured})

          if evaluating or saving:
            rate.restart()
          if last or stopping:
            break
          watchdog.alive(f'waiting for batch {step + 1}')
          rows = next(train_batches)
          watchdog.alive(f'making step {step + 1}')
          state, step_metrics = train_step(state, sharding.to_global(mesh, rows))
          if unseen is not None:
            look_at(*unseen)
          unseen = step + 1, step_metrics, _name_of(rows)
          step += 1
        except NonFiniteError as error:
          if not rollbacks:
            raise
          # The batches are not rewound: those since the checkpoint are skipped.
          rollbacks -= 1
          start, state, _ = restore_or_make()
          step, unseen = start, None
          log.rewind(start)
          log.say(f'{error}. Rolled back to step {start}; {rollbacks} rollbacks are left')
      if stopping and not last:
        log.say(f'stopped by {stopping} after step {step}; the same command goes on')
        return values
      log.say(_conclusion(config, state_shapes['params'], values, total_steps - first, begun))

  # --------------------------------------------------------------------------------- Pictures
  if jax.process_count() == 1 and config.model.get('variant') == 'scs':
    model = _evaluated_model(graph, state)
    if hasattr(model.first_layer, 'kernel'):  # a stack may begin with a pool
      image = next(data.evaluation_batches(eval_set, 1))['image'][0].astype(np.float32) / 255
      pictures.draw_first_layer(model.first_layer, image, workdir / 'pictures')
    else:
      log.say('no pictures: the first layer has no kernels')
  return values


def evaluate_checkpoint(
  config: ml_collections.ConfigDict,
  workdir: str,
  step: int | None = None,
  *,
  averaged: bool = True,
) -> dict[str, float]:
  """Evaluates the newest checkpoint of `workdir`, or that of `step`, and changes nothing on disk.

  Args:
    config: that of the run.
    workdir: that of the run.
    step: of the checkpoint; None is the newest.
    averaged: False evaluates the parameters as the last step left them, if the run averages them.

  Returns:
    'step' and the metrics of `train_and_evaluate`.

  Raises:
    ValueError: the workdir holds no checkpoint, or a run of another config.
    scs_jax.checkpoint.CheckpointError: the checkpoint asked for is damaged, or none is intact.
  """
  mesh = sharding.make_mesh(**config.mesh)
  graph, shardings, restored, eval_set = _restore(config, workdir, step, mesh)
  state, shardings = (
    {name: part for name, part in whole.items() if averaged or name != 'ema'}
    for whole in (restored.state, shardings)
  )
  objective = losses.OBJECTIVES[config.objective]
  evaluate = _make_evaluate(graph, objective, mesh, shardings, eval_set, config.eval_batch_size)
  return {'step': restored.step, **evaluate(state)}


def trained_model(
  config: ml_collections.ConfigDict, workdir: str, step: int | None = None
) -> nnx.Module:
  """Returns the network of `workdir` as its newest checkpoint, or that of `step`, has it.

  The parameters are the averaged ones if the run has them: those that were evaluated.

  Args:
    config: that of the run.
    workdir: that of the run.
    step: of the checkpoint; None is the newest.

  Raises:
    ValueError: the workdir holds no checkpoint, or a run of another config.
    scs_jax.checkpoint.CheckpointError: the checkpoint asked for is damaged, or none is intact.
  """
  mesh = sharding.make_mesh(**config.mesh)
  graph, _, restored, _ = _restore(config, workdir, step, mesh)
  return _evaluated_model(graph, restored.state)


def _restore(config, workdir, step, mesh):
  """Returns the model's structure, shardings, checkpoint and evaluation set; writes nothing."""
  workdir = folder(workdir)
  if not holds_run(workdir):
    raise ValueError(f'--workdir {workdir} holds no run: train first')
  check_same_run(workdir, config.to_json_best_effort(), MAY_CHANGE)
  train_set, eval_set = _load(config)
  optimizer = optim.make(1, **config.optimizer.to_dict())  # for the shape of its state only
  graph, make_state = _make_model(config, train_set, optimizer)
  state_shapes = jax.eval_shape(make_state)
  shardings = sharding.state_shardings(mesh, state_shapes)
  with Checkpoints(workdir / 'checkpoints', read_only=True) as checkpoints:
    restored = checkpoints.restore(_with_shardings(state_shapes, shardings), step)
  if restored is None:
    raise ValueError(f'--workdir {workdir} holds no checkpoint yet')
  return graph, shardings, restored, eval_set


def _check_ranges(config):
  """Checks the numbers that nobody else looks at before they are used."""
  check_known('objective', config.objective, losses.OBJECTIVES)
  for name in ('log_every_steps', 'eval_batch_size', 'keep_latest'):
    if config[name] < 1:
      raise ValueError(f'{name} must be at least 1, got {config[name]}')
  check_known('on_save_error', config.on_save_error, ('stop', 'continue'))
  if config.rollbacks < 0:
    raise ValueError(f'rollbacks must be at least 0, got {config.rollbacks}')
  for name in ('stall_seconds', 'total_epochs', 'eval_every_epochs', 'save_every_epochs'):
    if not config[name] > 0:
      raise ValueError(f'{name} must be greater than 0, got {config[name]}')
  for name, off in (('label_smoothing', 0.0), ('ema_decay', None)):
    if config[name] != off and not 0 <= config[name] < 1:
      raise ValueError(f'{name} must be in [0, 1), or {off} for none; got {config[name]}')


def _load(config):
  """Returns the examples to train on and those to evaluate."""
  settings = {name: config.data[name] for name in ('data_dir', 'resolution', 'workers')}
  load = functools.partial(data.load, config.data.name, **settings)
  return load(config.data.train_split), load(config.data.eval_split)


def _host():
  """Which rows of a batch are this process's."""
  return {'process_index': jax.process_index(), 'process_count': jax.process_count()}


def _is_boundary(step, period):
  """Whether `step` is the first at or after a multiple of `period`, which may be fractional."""
  return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)


def _make_model(config, train_set, optimizer):
  """Returns the structure of the model, and the function that makes the first state."""
  sizes = {'input_shape': train_set.image_shape, 'num_classes': train_set.num_classes}

  def build():
    return models.build(**config.model.to_dict(), **sizes, rngs=nnx.Rngs(config.seed))

  return split_model(build, optimizer, averaged=config.ema_decay is not None)


def guesses(values: dict[str, float], num_classes: int) -> bool:
  """Whether an evaluation is no better than that of equal logits for all classes.

  So it stays where nothing can be learned: the loss of the networks of experiments/records whose outputs
  vanish is within 0.02 % of log(num_classes) in all epochs, that of the others below it from the first.
  """
  return 'val/accuracy' in values and values['val/loss'] > 0.999 * math.log(num_classes)


_GUESSES = (
  'this is no better than guessing. If it stays so, the outputs may vanish from layer to layer: use a '
  'smaller q, a p nearer to 1, fewer layers or model.scale_init; or lower the learning rate'
)


def _make_evaluate(graph, objective, mesh, shardings, eval_set, batch_size):
  """Returns a function from the state to the means over every example of `eval_set`."""
  batch_size = -(-batch_size // mesh.size) * mesh.size  # full rows for every device
  eval_step = jax.jit(
    make_eval_step(graph, objective, functools.partial(sharding.gather, mesh)),
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=sharding.replicated(mesh),
  )

  def evaluate(state):
    sums = None
    for rows in data.evaluation_batches(eval_set, batch_size, **_host()):
      more = eval_step(state, sharding.to_global(mesh, rows))
      sums = more if sums is None else jax.tree.map(jnp.add, sums, more)
    return {f'val/{name}': value for name, value in metrics.means(sums).items()}

  return evaluate


def _evaluated(state):
  """Returns the part of a state that has the 'params' and 'statistics' to evaluate."""
  return state.get('ema', state)


def _evaluated_model(graph, state):
  evaluated = _evaluated(state)
  return nnx.merge(graph, evaluated['params'], evaluated['statistics'])


def _with_shardings(shapes, shardings):
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
    shapes,
    shardings,
  )


def _name_of(rows):
  """Says which examples a batch has: what their random keys are made of."""
  epochs = '-'.join(str(e) for e in sorted({int(rows['epoch'][0]), int(rows['epoch'][-1])}))
  indices = ', '.join(map(str, rows['index'][:3]))
  return f'the batch of epoch {epochs} that begins with examples {indices}'


def _introduction(config, params, mesh, start, total_steps):
  devices = f'{mesh.size} {jax.devices()[0].platform} devices'
  begin = f'going on at step {start}' if start else 'starting'
  return (
    f'{config.model.name} on {config.data.name}: {_size(params)}, {devices}, '
    f'batch {config.batch_size}, {begin} of {total_steps} steps'
  )


def _conclusion(config, params, values, steps, begun):
  """The last line: the images a second count everything since the loop began."""
  reached = f'{config.data.eval_split} ' + (
    f'accuracy {values["val/accuracy"]:.2%}'
    if config.objective == 'classification'
    else f'PSNR {values["val/psnr"]:.2f} dB'
  )
  seconds = time.perf_counter() - begun
  effort = f'{seconds:.0f} s, {steps * config.batch_size / seconds:.0f} images/s in all'
  return f'{_size(params)}, {reached}, {effort if steps else "nothing was left to train"}'


def _size(params):
  return f'{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters'


def _numbers(values):
  return '  '.join(f'{name} {value:.4g}' for name, value in values.items())
