"""Runs whose workdir is a bucket: the real clients against an emulated server."""

import functools
import json
import socket

import jax
import jax.numpy as jnp
import pytest
from etils import epath
from fsspec.asyn import AsyncFileSystem
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server
from test_faults import at_batch
from test_train import assert_equal, restored_state, small_config

from scs_jax import train
from scs_jax.workdir import Checkpoints


@pytest.fixture(scope='module')
def bucket():
  """The address of an empty bucket. The clients read its location once per process."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  server = create_server('127.0.0.1', port, in_memory=True, default_bucket='bucket')
  server.start()
  with pytest.MonkeyPatch.context() as patch:
    for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
      patch.setenv(name, f'http://127.0.0.1:{port}')
    patch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')  # would ask for credentials
    import gcsfs  # late, because it reads the variables on import

    # This server cannot move objects. The client's fallback runs at once, without half a minute of
    # retries.
    patch.setattr(gcsfs.GCSFileSystem, '_mv_file', AsyncFileSystem._mv_file)
    patch.setattr(objects, 'download', functools.partial(download, objects.download))
    yield epath.Path('gs://bucket')
  server.stop()


def download(answer, request, response, storage):
  """Adds the header that tells a client whether an object has changed."""
  answer(request, response, storage)
  if response.status < 300:
    names = request.params['bucket_name'], request.params['object_id']
    response['x-goog-generation'] = storage.get_file_obj(*names)['generation']


@pytest.fixture(scope='module')
def interrupted(bucket, tmp_path_factory):
  """A run that was killed before its sixth batch, after the save of step 4."""
  with pytest.MonkeyPatch.context() as patch:

    def kill(_):
      raise KeyboardInterrupt

    at_batch(patch, 6, kill)
    with pytest.raises(KeyboardInterrupt):
      train.train_and_evaluate(small_config(), bucket / 'run')
  return bucket / 'run'


def test_it_goes_on_to_the_same_bits_as_on_a_disk(interrupted, tmp_path):
  train.train_and_evaluate(small_config(), interrupted)
  train.train_and_evaluate(small_config(), tmp_path)
  assert_equal(
    restored_state(small_config(), interrupted), restored_state(small_config(), tmp_path)
  )
  lines = (interrupted / 'metrics-000000.jsonl').read_text().splitlines()
  steps = [row['step'] for row in map(json.loads, lines) if 'train/loss' in row]
  assert steps == list(range(1, 11))
  assert sorted(path.name for path in (interrupted / 'checkpoints').iterdir()) == ['10', '8']


def test_a_killed_save_is_removed_and_a_changed_object_found(bucket):
  state = {'kernel': jnp.arange(12.0)}
  wanted = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
  )
  folder = bucket / 'checkpoints'
  with Checkpoints(folder, keep_latest=3) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, jax.tree.map(lambda a, n=step: a * n, state), {})
  (folder / '3' / 'manifest.json').unlink()  # as if it had never been written
  data = next((folder / '2' / 'state').glob('ocdbt*/d/*'))
  data.write_bytes(b'x' + data.read_bytes()[1:])
  with Checkpoints(folder) as checkpoints:
    restored = checkpoints.restore(wanted)
    assert restored.step == 1
    assert 'has changed' in checkpoints.skipped[2]
    assert checkpoints.verified_steps() == [1]
  assert sorted(path.name for path in folder.iterdir()) == ['1', 'damaged']
