"""What happens on disk: the folder of a run, its checkpoints and its metrics."""

from scs_jax.workdir.checkpoints import Checkpoints, Restored
from scs_jax.workdir.claim import (
  check_present,
  check_same_run,
  claim,
  config_hash,
  holds_run,
  note_saved,
  read_config,
  read_sizes,
)
from scs_jax.workdir.metric_log import MetricLog, Rate
from scs_jax.workdir.processes import CheckpointError, SaveError, WorkdirError
from scs_jax.workdir.storage import folder, is_bucket, write_whole

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
  'config_hash',
  'folder',
  'holds_run',
  'is_bucket',
  'note_saved',
  'read_config',
  'read_sizes',
  'write_whole',
]
