"""Trains a trial as one program on one accelerator: `python -m experiments.reproduce --on_device`.

A step of these small networks takes a GPU less than a millisecond, and launching its kernels from
the host takes longer. Here all steps of a run are one program. Examples, random numbers, steps and
checkpoint are those of `scs_jax.train`; the only checkpoint is that of the last step.
"""

import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType

from experiments.results import Trial, result
from scs_jax.data import batches
from scs_jax.train import Experiment, State, sharding
from scs_jax.train import config as configuration
from scs_jax.train.keys import MAY_CHANGE
from scs_jax.workdir import Checkpoints, MetricLog, claim, folder


def run(trial: Trial, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, evaluates and saves; returns the result of the run.

  Raises:
    SystemExit: `workdir` holds a checkpoint already, or the loss became NaN or infinite.
  """
  experiment, home = Experiment(trial.load()), folder(str(workdir))
  defaults = configuration.to_json(configuration.default(experiment.config.model.name))
  given = configuration.to_json(experiment.config)
  with (
    claim(home, given, MAY_CHANGE, defaults, sizes=experiment.sizes),
    Checkpoints(home / 'checkpoints') as checkpoints,
  ):
    if checkpoints.latest_step() is not None:
      raise SystemExit(f'{workdir} holds a checkpoint: resume that run without --on_device')
    state, values = _train(experiment, workdir)
    last = experiment.total_steps
    with MetricLog(home, start=0, total_steps=last) as log:
      log.write(last, values)
    extra = {'iterator': {'step': last}, 'metrics': values}
    checkpoints.save(last, state.to_dict(), extra)
  return result(trial, experiment, workdir)


def _train(experiment: Experiment, workdir: pathlib.Path) -> tuple[State, dict[str, float]]:
  """Returns the state after the last step and its row of `metrics.jsonl`."""
  config: Any = experiment.config
  mesh = jax.make_mesh(
    (1, 1), sharding.AXES, devices=jax.devices()[:1], axis_types=(AxisType.Auto,) * 2
  )
  examples = experiment.train_set
  order = _order(examples.size, experiment.total_steps, config)
  images, labels, order = jax.device_put(
    (examples.images, examples.labels, order), sharding.replicated(mesh)
  )
  state = experiment.first_state(mesh)
  program = jax.jit(_all_steps(experiment), donate_argnums=0)
  compiled = program.lower(state, config.seed, images, labels, order).compile()
  begun = time.perf_counter()
  state, loss = jax.block_until_ready(compiled(state, config.seed, images, labels, order))
  rate = experiment.total_steps * config.batch_size / (time.perf_counter() - begun)
  if not np.isfinite(loss).all():
    raise SystemExit(f'{workdir}: the loss of step {np.isfinite(loss).argmin() + 1} is not finite')
  values = experiment.evaluation(mesh)(state.evaluated.params, state.evaluated.statistics)
  return state, {**values, 'train/images_per_second': rate}


def _all_steps(experiment: Experiment) -> Callable[..., tuple[State, jax.Array]]:
  """Returns the function from the first state to the last one and the losses `[steps]`.

  The seed is an argument of the program, so all seeds of a row share one compiled program.
  """

  def all_steps(state: State, seed: Any, images: Any, labels: Any, order: Any):
    train_step = experiment.train_step_function(seed=seed)

    def step(state: State, seen: dict[str, jax.Array]):
      batch = {'image': images[seen['index']], 'label': labels[seen['index']], **seen}
      state, values = train_step(state, batch)
      return state, values['loss']

    return jax.lax.scan(step, state, order)

  return all_steps


def _order(count: int, total_steps: int, config: Any) -> dict[str, np.ndarray]:
  """Returns the epoch and the index of the examples of every step, `[steps, batch]`."""
  order = batches.Order(count, config.seed)
  epoch, index = order.locate(np.arange(total_steps * config.batch_size))
  shape = (total_steps, config.batch_size)
  return {'epoch': epoch.reshape(shape), 'index': index.reshape(shape)}
