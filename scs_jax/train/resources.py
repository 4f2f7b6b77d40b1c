"""What the loop holds while it runs: claim, checkpoints, log, signals and watchdog."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from scs_jax.errors import UserError
from scs_jax.train import agreement
from scs_jax.train.experiment import Experiment
from scs_jax.train.profile import Profile
from scs_jax.train.steps import Batch, State
from scs_jax.train.stopping import StopRequest
from scs_jax.train.watchdog import Watchdog
from scs_jax.workdir import (
  Checkpoints,
  MetricLog,
  Rate,
  SaveError,
  check_present,
  claim,
  config_hash,
  holds_run,
  is_bucket,
  note_saved,
)

# Takes a step and the metrics of that step; another place for what metrics.jsonl gets.
Sink = Callable[[int, Mapping[str, float]], None]


class NonFiniteError(UserError, RuntimeError):
  """The loss or the gradient is not a finite number."""


@dataclasses.dataclass
class Resources:
  """An experiment in its workdir.

  Attributes:
    experiment: what is trained.
    path: the workdir.
    mesh: of all devices.
    train_step: the compiled step; it donates the state.
    evaluate: the compiled evaluation of parameters and statistics.
    batches: the endless iterator over training batches.
    checkpoints: of the workdir.
    stop: notices signals.
    watchdog: reports when nothing happens.
    log: metrics.jsonl, TensorBoard events and the terminal.
    rate: counts training images per second.
    profile: of some steps.
    sinks: also get every row of the log, on process 0.
    begun: the step that was restored last.
    unsaved: why the last save could not start, if it could not.
    compared: whether the copies of the parameters were found equal.
  """

  experiment: Experiment
  path: epath.Path
  mesh: Mesh
  train_step: Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]
  evaluate: Callable[[Any, Any], dict[str, float]]
  batches: Any
  checkpoints: Checkpoints
  stop: StopRequest
  watchdog: Watchdog
  log: MetricLog
  rate: Rate
  profile: Profile
  sinks: Sequence[Sink]
  begun: int
  unsaved: SaveError | None = None
  compared: bool = False

  def restore(self) -> tuple[int, State]:
    """Returns the step and the state of the newest good checkpoint, or the first ones."""
    self.begun, state, saved = _restore(self.experiment, self.mesh, self.checkpoints)
    self.log.rewind(self.begun, saved.get('rows'))
    return self.begun, state

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes a row of metrics to the log and to the sinks; raises what a sink raises."""
    self.log.write(step, values)
    if jax.process_index() == 0:
      for sink in self.sinks:
        sink(step, values)

  def check(self, step: int, values: dict[str, jax.Array], batch: str) -> None:
    """Checks the metrics of a step, and logs them if they are due.

    Args:
      step: the number of steps made, this one included.
      values: of the batch before the step, 'loss' and 'gradient_norm' among them.
      batch: describes the batch in an error message.

    Raises:
      NonFiniteError: loss or gradient norm is NaN or infinite. Its cause is the save that failed
        meanwhile, if the config says to stop then.
      SaveError: the row cannot be written, and the config says to stop then.
    """
    seen = {f'train/{name}': float(value) for name, value in values.items()}
    if not np.isfinite([seen['train/loss'], seen['train/gradient_norm']]).all():
      failed = None
      try:
        left = f'the last good checkpoint is that of step {self.checkpoints.latest_step()}'
      except SaveError as error:
        left, failed = str(error).rstrip('.'), error
      raise NonFiniteError(
        f'step {step}: loss {seen["train/loss"]}, gradient norm {seen["train/gradient_norm"]}, '
        f'on {batch}; {left}. Use a lower learning rate, a larger q or optimizer.clip_norm, or '
        'skip such batches with rollbacks'
      ) from (None if self.tolerant else failed)
    if step == self.begun + 1:
      self.rate.restart()  # without the compilation
    else:
      self.rate.count(self.experiment.config.batch_size)
    if step % self.experiment.config.log_every_steps == 0:
      check_present(self.path)
      learning_rate = np.asarray(self.experiment.learning_rate(step - 1)).item()
      self.write(step, {**seen, 'train/learning_rate': learning_rate})

  def save(self, step: int, state: State, values: dict[str, float]) -> None:
    """Starts to save a checkpoint, once all rows of metrics up to it are on disk.

    Args:
      step: the number of steps made.
      state: after that step.
      values: metrics that rank checkpoints; empty if the step was not evaluated.

    Raises:
      SaveError: this save or the one before failed, and the config says to stop then.
      DivergedError: at the first save, devices hold different parameters.
    """
    if not self.compared:
      agreement.check_replicas(step, state)
      self.compared = True
    check_present(self.path)
    try:
      self.checkpoints.wait()
    except SaveError as error:  # of the save before
      self._tolerate(error)
    try:
      rows = self.log.sync(step)
      extra = {'iterator': self.batches.state(), 'metrics': values, 'rows': rows}
      self.checkpoints.save(step, state.to_dict(), extra)
      self.unsaved = None
    except SaveError as error:
      self._tolerate(error)
      self.unsaved = error

  def _tolerate(self, error: SaveError) -> None:
    if not self.tolerant:
      raise error
    said = str(error).rstrip('.')
    self.log.say(f'{said}. Training continues without it, as on_save_error says')

  def finish(self) -> None:
    """Waits for the last save; raises SaveError if it failed or could not start."""
    self.checkpoints.wait()
    if self.unsaved is not None:
      raise self.unsaved

  @property
  def tolerant(self) -> bool:
    """Whether training continues after a save that failed."""
    return self.experiment.config.on_save_error == 'continue'


@contextlib.contextmanager
def opened(
  experiment: Experiment, path: epath.Path, sinks: Sequence[Sink] = ()
) -> Iterator[tuple[Resources, State, dict[str, float]]]:
  """Claims the workdir and restores what it holds.

  Args:
    experiment: what is trained.
    path: the workdir.
    sinks: also get the metrics.

  Yields:
    The resources, the state to continue from, and the metrics saved with it (empty at the start).
  """
  agreement.check_hosts(experiment, path, 'train')
  config, mesh = experiment.config, experiment.mesh()
  batches = experiment.train_batches()
  given, may_change, defaults = experiment.identity  # the data set has named its classes
  # Before the claim, because a config that cannot work must not claim a workdir.
  train_step, evaluate = experiment.train_step(mesh), experiment.evaluation(mesh)
  if not holds_run(path):  # a run that goes on needs them no more
    experiment.transferred  # noqa: B018, is made here
  with (
    claim(path, given, may_change, defaults, sizes=experiment.sizes),
    Checkpoints(
      path / 'checkpoints',
      keep_latest=config.keep_latest,
      keep_best=config.keep_best,
      best_metric=experiment.best_metric,
      config=config_hash(path, may_change),
      on_commit=functools.partial(note_saved, path),
    ) as checkpoints,
    StopRequest() as stop,
    Watchdog(config.stall_seconds) as watchdog,
  ):
    start, state, saved = _restore(experiment, mesh, checkpoints)
    if saved:
      batches.restore(saved['iterator'])
    with (
      MetricLog(
        path,
        start=start,
        total_steps=experiment.total_steps,
        rows=saved.get('rows'),
        in_parts=is_bucket(path),
        keep_going=config.on_save_error == 'continue',
      ) as log,
      Profile(path / 'profile', config.profile_steps, log.say) as profile,
    ):
      for step, reason in checkpoints.skipped.items():
        log.say(f'checkpoint of step {step} is damaged and was set aside: {reason}')
      resources = Resources(
        experiment,
        path,
        mesh,
        train_step,
        evaluate,
        batches,
        checkpoints,
        stop,
        watchdog,
        log,
        Rate(),
        profile,
        sinks,
        start,
      )
      yield resources, state, saved.get('metrics', {})
      resources.finish()


def _restore(
  experiment: Experiment, mesh: Mesh, checkpoints: Checkpoints
) -> tuple[int, State, dict[str, Any]]:
  """Returns step and state to continue from, and what was saved beside them, if anything."""
  restored = checkpoints.restore(experiment.abstract_state(mesh).to_dict())
  if restored is None:
    return 0, experiment.first_state(mesh), {}
  return restored.step, State.from_dict(restored.state), restored.extra
