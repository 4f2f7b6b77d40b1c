"""What happens on disk: the folder of a run."""

from scs_jax.workdir.checkpoints import CheckpointError, Checkpoints, SaveError, Restored
from scs_jax.workdir.claim import WorkdirError, check_present, folder, holds_run, is_bucket
from scs_jax.workdir import claim as _c
from scs_jax.workdir.metric_log import MetricLog, Rate
import contextlib, json


def check_same_run(path, config, may_change, defaults=None):
  return _c.check_same_run(path, config, may_change)


def read_config(path):
  return json.loads((path / 'config.json').read_text())


def read_sizes(path):
  f = path / 'model.json'
  return json.loads(f.read_text()) if f.exists() else None


claim_ = _c.claim


@contextlib.contextmanager
def claim(path, config, may_change, defaults=None, sizes=None):
  with claim_(path, config, may_change):
    if sizes:
      (path / 'model.json').write_text(json.dumps(sizes))
    yield
