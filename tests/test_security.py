"""Files of a stranger cannot run code: see SECURITY.md."""

import json

import numpy as np
import pytest

import scs_jax
from scs_jax.data import cache
from scs_jax.errors import ArgumentError
from scs_jax.train.config import default


class Payload:
  """Something that creates a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), 'w')


def workdir_with(folder, **model):
  """Makes a folder that looks like a workdir whose config names this model."""
  config = json.loads(default().to_json_best_effort())
  config['model'] = model
  (folder / 'checkpoints').mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'model.json').write_text(json.dumps({'input_shape': [8, 8, 1], 'num_classes': 2}))
  return folder


@pytest.mark.parametrize('name', ['os:system', 'subprocess:Popen', 'builtins:eval', 'os:path'])
def test_only_a_network_can_be_named_as_a_model(name, tmp_path):
  with pytest.raises(ArgumentError, match=r'must name an nnx\.Module|has no'):
    scs_jax.load(workdir_with(tmp_path / 'run', name=name))


def test_nothing_is_imported_from_a_workdir(tmp_path):
  folder = workdir_with(tmp_path / 'run', name='evil:Net')
  (folder / 'evil.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
  with pytest.raises(ArgumentError, match='evil'):
    scs_jax.load(folder)
  assert not (tmp_path / 'ran').exists()


def test_an_array_of_objects_in_the_cache_is_not_unpickled(tmp_path):
  payload = np.array([Payload(tmp_path / 'ran')], dtype=object)
  np.savez(tmp_path / 'cached.npz', images=payload, labels=np.zeros(1, np.int32))
  assert cache.read(tmp_path / 'cached.npz', 1) is None
  assert not (tmp_path / 'ran').exists()
  with np.load(tmp_path / 'cached.npz', allow_pickle=True) as arrays:
    arrays['images']
  assert (tmp_path / 'ran').exists(), 'the payload must work, or the test shows nothing'
