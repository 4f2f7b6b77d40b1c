"""What happens on disk: the folder of a run, its checkpoints and its metrics."""

from scs_jax.workdir.checkpoints import CheckpointError, Checkpoints, Restored, SaveError
from scs_jax.workdir.claim import (
  WorkdirError,
  check_present,
  check_same_run,
  claim,
  holds_run,
  read_config,
  read_sizes,
)
from scs_jax.workdir.metric_log import MetricLog, Rate
from scs_jax.workdir.storage import folder, is_bucket

__all__ = [
  'CheckpointError',
  'Checkpoints',
  'MetricLog',
  'Rate',
  'Restored',
  'SaveError',
  'WorkdirError',
  'check_present',
  'check_same_run',
  'claim',
  'folder',
  'holds_run',
  'is_bucket',
  'read_config',
  'read_sizes',
]
