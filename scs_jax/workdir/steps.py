"""Which steps of a directory are good, which to restore, and which to keep."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging
from etils import epath

from scs_jax.errors import ArgumentError
from scs_jax.workdir import manifest, storage
from scs_jax.workdir.processes import CheckpointError


class Steps:
  """The steps in a directory, as process 0 sees them.

  A step is good if every file agrees with its manifest, and its arrays can be read back.

  Args:
    directory: where the steps live.
    keep_latest: how many of the newest good steps to keep; at least 1.
    keep_best: how many good steps with the highest `best_metric` to keep besides.
    best_metric: the metric that ranks steps.
    config: hash of the config of the run. Steps of another config are never restored, counted or
      deleted. None takes all steps.
    read_back: raises `manifest.DamagedError` unless the arrays of the step in a path can be read
      and are what its manifest says.

  Raises:
    ArgumentError: `keep_latest` is below 1 or `keep_best` is negative.
  """

  def __init__(
    self,
    directory: epath.Path,
    *,
    keep_latest: int,
    keep_best: int,
    best_metric: str,
    config: str | None,
    read_back: Callable[[epath.Path, dict[str, Any]], None],
  ) -> None:
    if keep_latest < 1 or keep_best < 0:
      raise ArgumentError(
        f'keep_latest must be at least 1 and keep_best at least 0, not {keep_latest}, {keep_best}'
      )
    self._directory = directory
    self._keep_latest = keep_latest
    self._keep_best = keep_best
    self._best_metric = best_metric
    self._config = config
    self._read_back = read_back
    self._known: dict[int, dict[str, Any]] = {}  # manifests of the steps that were found good

  def good(self) -> dict[int, dict[str, Any]]:
    """Returns the manifests of the good steps. A step found good before is not read again."""
    known, self._known = self._known, {}
    for step in storage.steps(self._directory):
      with contextlib.suppress(manifest.DamagedError):
        contents = known.get(step) or self._verify(step)
        if self._is_ours(contents):
          self._known[step] = contents
    return self._known

  def ranked(self) -> list[int]:
    """Returns the good steps with a finite metric, the best first."""
    return manifest.ranked(self.good(), self._best_metric)

  def make_room(self, step: int) -> None:
    """Sets a damaged step of this number aside; raises ArgumentError if it is good."""
    if not (self._directory / str(step)).exists():
      return
    try:
      self._verify(step)
    except manifest.DamagedError as reason:
      logging.warning('%s holds a damaged step %d: %s', self._directory, step, reason)
      storage.set_aside(self._directory, step)
    else:
      raise ArgumentError(
        f'{self._directory} already holds a good step {step}: restore it, or use another directory'
      )

  def commit(self, step: int, contents: dict[str, Any]) -> None:
    """Makes a step that is completely written a good one, once its arrays were read back.

    Args:
      step: its number.
      contents: its manifest without the list of its files.
    """
    path = storage.pending(self._directory, step)
    contents = {**contents, 'files': manifest.fingerprints(path)}
    self._read_back(path, contents)
    storage.commit(self._directory, step, manifest.encode(contents))
    self._known[step] = contents

  def prune(self) -> None:
    """Deletes the good steps that are neither among the newest nor among the best."""
    best = self.ranked()[: self._keep_best]
    for step in set(sorted(self._known)[: -self._keep_latest]) - set(best):
      del self._known[step]
      storage.delete(self._directory, step)

  def choose(
    self, step: int | None, wanted: dict[str, str] | None, failed: Mapping[int, str]
  ) -> tuple[int, list[tuple[int, str]]] | None:
    """Returns the step to restore and those skipped before it. Checks every file anew.

    Args:
      step: this one and no other; None means the newest good one.
      wanted: the arrays it must hold, as `manifest.describe_shapes` has them; None takes any.
      failed: why steps whose files are intact could not be restored.

    Returns:
      None if there is no step and none was asked for.

    Raises:
      CheckpointError: there is no good step; or the step is of another config or model.
    """
    steps = storage.steps(self._directory)
    if step is not None and step not in steps:
      raise CheckpointError(f'{self._directory} holds no step {step}; its steps are {steps}')
    skipped: list[tuple[int, str]] = []
    for candidate in [step] if step is not None else steps[::-1]:
      self._known.pop(candidate, None)
      try:
        contents = manifest.verify(self._directory / str(candidate))
        if candidate in failed:
          raise manifest.DamagedError(f'it cannot be restored: {failed[candidate]}')
      except manifest.DamagedError as reason:
        logging.warning('Skipping step %d in %s: %s', candidate, self._directory, reason)
        skipped.append((candidate, str(reason)))
      else:
        self._check_fits(candidate, contents, wanted)
        return candidate, skipped
    if not skipped:
      return None
    if failed:  # the files are intact, so the cause may lie elsewhere
      newest = max(failed)
      others = '; '.join(f'step {number}: {why}' for number, why in skipped if number != newest)
      raise CheckpointError(
        f'step {newest} in {self._directory} agrees with its manifest, but restoring it failed: '
        f'{failed[newest]}. No other step is good ({others or "there is none"}), and nothing was '
        'changed'
      )
    reasons = '; '.join(f'step {number}: {reason}' for number, reason in skipped)
    raise CheckpointError(
      f'no good step to restore in {self._directory}: {reasons}. Nothing was changed. Put an '
      f'intact copy of a step there, or start afresh in another directory. Steps present: {steps}'
    )

  def _verify(self, step: int) -> dict[str, Any]:
    path = self._directory / str(step)
    contents = manifest.verify(path)
    self._read_back(path, contents)
    return contents

  def _is_ours(self, contents: dict[str, Any]) -> bool:
    """Whether a step is of this run. Manifests of version 0.1.0 do not say."""
    return self._config is None or contents.get('config', self._config) == self._config

  def _check_fits(self, step: int, contents: dict[str, Any], wanted: dict[str, str] | None) -> None:
    if not self._is_ours(contents):
      raise CheckpointError(
        f'step {step} in {self._directory} was saved under another config than that of '
        'config.json: put back the one that belongs to these checkpoints, or use another '
        'workdir'
      )
    if wanted is not None and (difference := manifest.difference(contents['state'], wanted)):
      raise CheckpointError(
        f'step {step} in {self._directory} does not fit the model: {difference}. Run with the '
        'configuration that saved it, or in another directory.'
      )
