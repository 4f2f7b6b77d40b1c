"""The recipe: one loop, the same on a laptop and on a pod."""

import math
import os
import time
from collections.abc import Sequence

import jax
from etils import epath

from scs_jax.train import report, sharding
from scs_jax.train.experiment import Experiment
from scs_jax.train.resources import NonFiniteError, Resources, Sink, opened
from scs_jax.train.restore import draw_into
from scs_jax.train.steps import State
from scs_jax.workdir import check_present, folder


def run(
  experiment: Experiment, workdir: str | os.PathLike, *, sinks: Sequence[Sink] = ()
) -> dict[str, float]:
  """Trains an experiment, or resumes the run that `workdir` holds.

  Args:
    experiment: what to train.
    workdir: a folder or `gs://`. It gets `config.json`, `model.json`, `metrics.jsonl`, TensorBoard
      events, `checkpoints/` and `pictures/`; also `lock`, which names who writes there, and
      `saved.json`, which tells a run that lost its checkpoints from a new one.
    sinks: functions of a step and its metrics that also get each row of `metrics.jsonl`, on process
      0. What one of them raises stops the run. A resumed run repeats the rows after its checkpoint.

  Returns:
    The metrics of the last evaluation: 'val/loss' and 'val/accuracy' or 'val/psnr'.

  Raises:
    ArgumentError: something in the config cannot work, or `workdir` holds another run.
    NonFiniteError: loss or gradient became NaN or infinite; the last good checkpoint stays.
    scs_jax.workdir.WorkdirError: another process uses `workdir`, or it was removed.
    scs_jax.workdir.CheckpointError: a checkpoint could not be written, or none is intact.

  Example, which logs to Weights & Biases:
    >>> import wandb  # doctest: +SKIP
    >>> wandb.init(project='scs', id='digits-0', resume='allow')  # doctest: +SKIP
    >>> log = lambda step, metrics: wandb.log(dict(metrics), step=step)  # doctest: +SKIP
    >>> train.run(experiment, '/tmp/digits-0', sinks=[log])  # doctest: +SKIP
  """
  path = folder(workdir)
  with opened(experiment, path, sinks) as (here, state, values):
    first, started, rollbacks = here.begun, time.perf_counter(), experiment.config.rollbacks
    here.log.say(report.introduction(experiment, here.mesh, first))
    for remark in report.remarks(experiment, first):
      here.log.say(remark)
    step = first
    while True:
      try:
        state, values, stopped = train(here, step, state, values)
        break
      except NonFiniteError as error:
        if not rollbacks or error.__cause__ is not None:
          raise
        # The batches are not rewound: those since the checkpoint are skipped.
        rollbacks -= 1
        step, state = here.restore()
        here.log.say(f'{error}. Rolled back to step {step}; {rollbacks} rollbacks are left')
    if stopped:
      here.log.say(f'stopped by {stopped}; run the same command again to resume')
      return values
    seconds = time.perf_counter() - started
    here.log.say(report.conclusion(experiment, values, experiment.total_steps - first, seconds))
  # Only now is the last checkpoint on disk: pictures must not take its space.
  if problem := draw_pictures(experiment, state, path):
    print(problem)
  return values


def train(
  here: Resources, start: int, state: State, values: dict[str, float]
) -> tuple[State, dict[str, float], str]:
  """Trains from step `start` to the end, or until a signal.

  The order never changes: evaluate, checkpoint, next batch, step, and check the metrics of the step
  before. A step is checked one step late, so the device never waits for the host. A checkpoint is
  written only after all its steps were checked.

  Args:
    here: the open workdir and what the run needs.
    start: the number of steps already made.
    state: to train; it is donated.
    values: of the last evaluation.

  Returns:
    The last state, the metrics of the last evaluation, and the signal that stopped the run, or ''.
  """
  experiment, log, watchdog = here.experiment, here.log, here.watchdog
  total_steps, steps_per_epoch = experiment.total_steps, experiment.steps_per_epoch
  eval_period = experiment.config.eval_every_epochs * steps_per_epoch
  save_period = experiment.config.save_every_epochs * steps_per_epoch

  step, unchecked = start, None  # unchecked: the step before, its metrics and its batch
  while True:
    last, signal = step == total_steps, here.stop.requested(step)
    evaluating = step > start and (last or is_boundary(step, eval_period))
    saving = step > start and (last or bool(signal) or is_boundary(step, save_period))
    if (evaluating or saving) and unchecked is not None:
      here.check(*unchecked)
      unchecked = None

    # ------------------------------------------------------------------------------ Evaluate
    if evaluating:
      watchdog.alive(f'evaluating after step {step}')
      rate = here.rate.read()
      values = here.evaluate(state.evaluated.params, state.evaluated.statistics)
      check_present(here.path)
      here.write(step, {**values, **rate})
      log.say(report.evaluation(step, step / steps_per_epoch, {**values, **rate}))
      if report.guesses(values, experiment.sizes['num_classes']):
        log.say(report.GUESSING)

    # ---------------------------------------------------------------------------- Checkpoint
    if saving:
      watchdog.alive(f'saving step {step}')
      here.save(step, state, values if evaluating else {})
    if evaluating or saving:
      here.rate.restart()
    if last or signal:
      return state, values, '' if last else f'{signal} after step {step}'

    # ------------------------------------------------------------------- Next batch, and step
    watchdog.alive(f'waiting for batch {step + 1}')
    rows = next(here.batches)
    watchdog.alive(f'making step {step + 1}')
    here.profile.before(step - here.begun, unchecked)
    state, metrics = here.train_step(state, sharding.to_global(here.mesh, rows))
    if unchecked is not None:
      here.check(*unchecked)
    unchecked = step + 1, metrics, report.batch_name(rows)
    step += 1


def draw_pictures(experiment: Experiment, state: State, path: epath.Path) -> str:
  """Draws what a finished run learned, into `path / 'pictures'`.

  Returns:
    '', or why there are no pictures. A failed drawing never fails a finished run.
  """
  if jax.process_count() > 1:
    return ''
  try:
    model = experiment.model_of(state)
    if not hasattr(model, 'first_layer'):
      return ''  # a model need not name one
    image, name = experiment.example()
    draw_into(path / 'pictures', model, image, name)
  except Exception as error:  # whatever a model of the user or the drawing library raises
    return f'no pictures: {error}'
  return ''


def is_boundary(step: int, period: float) -> bool:
  """Whether `step` is the first at or after a multiple of `period`, which may be fractional."""
  return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)
