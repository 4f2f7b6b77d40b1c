"""Trains a row with the images and the whole loop on one accelerator: run.py --on_device.

A GPU takes less than a millisecond for a step of these small networks; to start its kernels from the
host takes longer. Here all steps of a run are one program. Examples, random numbers and steps are those
of scs_jax.train, and so is the checkpoint that it leaves: after the last step and no earlier.
"""

import functools
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent)]

from results import Trial, result  # noqa: E402

from scs_jax import data, models, train  # noqa: E402
from scs_jax.train import losses, metrics, optim  # noqa: E402
from scs_jax.workdir.checkpoints import Checkpoints  # noqa: E402
from scs_jax.data import augment, batches  # noqa: E402
from scs_jax.workdir.metric_log import MetricLog  # noqa: E402
from scs_jax.workdir import claim, folder  # noqa: E402


def run(trial: Trial, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, evaluates and saves; returns what is worth keeping.

  Raises:
    SystemExit: `workdir` holds a checkpoint already, or the loss became NaN or infinite.
  """
  config, home = trial.load(), folder(str(workdir))
  with (
    claim(home, config.to_json_best_effort(indent=2), train.MAY_CHANGE),
    Checkpoints(home / 'checkpoints') as checkpoints,
  ):
    if checkpoints.latest_step() is not None:
      raise SystemExit(f'{workdir} holds a checkpoint: without --on_device the run goes on from it')
    steps, state, values = _train(config, workdir)
    with MetricLog(home, start=0, total_steps=steps) as log:
      log.write(steps, values)
    checkpoints.save(steps, state, {'iterator': {'step': steps}, 'metrics': values})
  return result(trial, config, workdir)


def _train(config, workdir: pathlib.Path) -> tuple[int, train.State, dict[str, float]]:
  """Returns the number of steps, the state after them and what `metrics.jsonl` says of it."""
  load = functools.partial(data.load, config.data.name, data_dir=config.data.data_dir)
  examples, eval_set = load(config.data.train_split), load(config.data.eval_split)
  steps = max(1, round(config.total_epochs * examples.size / config.batch_size))

  sizes = {'input_shape': examples.image_shape, 'num_classes': examples.num_classes}
  build = lambda: models.build(**config.model.to_dict(), **sizes, rngs=nnx.Rngs(config.seed))
  optimizer = optim.make(steps, **config.optimizer.to_dict())
  graph, make_state = train.split_model(build, optimizer, averaged=config.ema_decay is not None)
  objective = losses.OBJECTIVES[config.objective]
  program = _all_steps(graph, optimizer, objective, config)

  state, images, labels, order = jax.device_put(
    (jax.jit(make_state)(), examples.images, examples.labels, _order(examples.size, steps, config))
  )
  program = program.lower(state, config.seed, images, labels, order).compile()
  begun = time.perf_counter()
  state, loss = jax.block_until_ready(program(state, config.seed, images, labels, order))
  rate = steps * config.batch_size / (time.perf_counter() - begun)
  if not np.isfinite(loss).all():
    raise SystemExit(f'{workdir}: the loss of step {np.isfinite(loss).argmin() + 1} is not finite')

  eval_step = jax.jit(train.make_eval_step(graph, objective, gather=_whole))
  sums = [eval_step(state, b) for b in data.evaluation_batches(eval_set, config.eval_batch_size)]
  means = metrics.means(jax.tree.map(lambda *terms: sum(terms), *sums))
  values = {f'val/{name}': value for name, value in means.items()}
  return steps, state, {**values, 'train/images_per_second': rate}


def _all_steps(graph, optimizer, objective, config):
  """Returns the jitted function from the first state to the last one and the losses `[steps]`.

  The seed is an argument, so that all seeds are the same program to a compilation cache.
  """

  def all_steps(state, seed, images, labels, order):
    train_step = train.make_train_step(
      graph,
      optimizer,
      objective=objective,
      augmentation=augment.make(**config.augment),
      label_smoothing=config.label_smoothing,
      ema_decay=config.ema_decay,
      seed=seed,
      gather=_whole,
    )

    def step(state, seen):
      batch = {'image': images[seen['index']], 'label': labels[seen['index']], **seen}
      state, values = train_step(state, batch)
      return state, values['loss']

    return jax.lax.scan(step, state, order)

  return jax.jit(all_steps, donate_argnums=0)


def _order(count, steps, config):
  """Returns the epoch and the index of the examples of every step, `[steps, batch]`."""
  order = batches.Order(count, config.seed)
  epoch, index = order.locate(np.arange(steps * config.batch_size))
  return {
    name: positions.reshape(steps, config.batch_size)
    for name, positions in {'epoch': epoch, 'index': index}.items()
  }


def _whole(params):
  return params
