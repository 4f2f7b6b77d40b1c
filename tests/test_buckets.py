"""Runs whose workdir is a bucket: the real clients against an emulated server."""

import concurrent.futures
import functools
import http
import json
import socket
import threading
import time

import jax
import jax.numpy as jnp
import pytest
from etils import epath
from fsspec.asyn import AsyncFileSystem
from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from google.cloud import storage as google
from test_faults import at_batch
from test_train import assert_equal, restored_state, small_config

from scs_jax import train
from scs_jax.errors import ArgumentError
from scs_jax.workdir import Checkpoints, WorkdirError, claim, lease

HANDLERS = emulator.HANDLERS


@pytest.fixture(scope='module')
def bucket():
  """The address of an empty bucket. The clients read its location once per process."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  server = emulator.create_server('127.0.0.1', port, in_memory=True, default_bucket='bucket')
  server.start()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(emulator, 'HANDLERS', [(path, conditional(each)) for path, each in HANDLERS])
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


def conditional(handlers):
  """Makes writes and deletions depend on the generation of the object, as Google's server does."""

  def checked(handler):
    def answer(request, response, storage):
      (wanted,) = request.query.get('ifGenerationMatch', [None])
      if wanted is not None:
        (name,) = request.query.get('name', [request.params.get('object_id')])
        name = name or request.data['meta']['name']
        try:
          found = storage.get_file_obj(request.params['bucket_name'], name)['generation']
        except NotFound:
          found = '0'
        if found != wanted:
          response.status = http.HTTPStatus.PRECONDITION_FAILED
          return
      handler(request, response, storage)

    return answer

  changing = {objects.insert, objects.delete}
  return {
    method: checked(handler) if handler in changing else handler
    for method, handler in handlers.items()
  }


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


STATE = {'kernel': jnp.arange(12.0)}
WANTED = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), STATE)


@pytest.fixture(scope='module')
def folder(bucket):
  """A folder of a bucket with the checkpoints 1, 2 and 3."""
  with Checkpoints(bucket / 'checkpoints', keep_latest=3) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, jax.tree.map(lambda a, n=step: a * n, STATE), {})
  assert names(bucket / 'checkpoints') == ['1', '2', '3']
  return bucket / 'checkpoints'


def names(path):
  return sorted(child.name for child in path.iterdir())


def test_what_kills_left_is_removed(folder):
  (folder / '7' / 'state').write_text('some of it')
  (folder / '7.pending').write_text('')
  (folder / '3.pending').write_text('')  # killed after its manifest was written
  (folder / '0' / 'state').write_text('the rest of it')
  (folder / '0.deleted').write_text('')
  with Checkpoints(folder, read_only=True) as checkpoints:
    assert checkpoints.restore(WANTED).step == 2
    assert checkpoints.skipped == {}
  with Checkpoints(folder) as checkpoints:
    assert checkpoints.restore(WANTED).step == 3
    assert checkpoints.skipped == {}
  assert names(folder) == ['1', '2', '3']


def test_a_lost_manifest_deletes_nothing_and_a_changed_object_is_found(folder):
  (folder / '3' / 'manifest.json').unlink()
  data = next((folder / '2' / 'state').glob('ocdbt*/d/*'))
  data.write_bytes(b'x' + data.read_bytes()[1:])
  with Checkpoints(folder) as checkpoints:
    restored = checkpoints.restore(WANTED)
    assert restored.step == 1
    assert 'has changed' in checkpoints.skipped[2]
    assert 'no manifest' in checkpoints.skipped[3]
    assert checkpoints.verified_steps() == [1]
  assert names(folder) == ['1', 'damaged']
  assert (folder / 'damaged' / '3-0' / 'state' / 'manifest.ocdbt').exists()


class TestLease:
  @pytest.fixture
  def lock(self, bucket, monkeypatch, request):
    monkeypatch.setattr(lease, 'BEAT_SECONDS', 0.05)
    monkeypatch.setattr(lease, 'DEAD_SECONDS', 0.4)
    return bucket / request.node.name / 'lock'

  def test_it_is_held_until_the_end(self, lock):
    with lease.hold(lock):
      first = lock.read_text()
      assert first.startswith(lease.holder())
      lease.check_held(lock)
      while lock.read_text() == first:
        time.sleep(0.01)
      lease.check_held(lock)
    assert not lock.exists()

  def test_of_many_that_want_it_one_gets_it(self, lock):
    for text in (None, 'process 7 on there\n'):  # none yet; and one whose holder died
      if text:
        lock.write_text(text)
      hold_at_once(lock)

  def test_a_holder_that_lives_is_left_alone(self, lock):
    with lease.hold(lock), pytest.raises(WorkdirError, match=r'in use by process \d+ on .*wait'):
      lease.hold(lock).__enter__()

  def test_a_holder_that_lost_it_notices_and_leaves_it(self, lock):
    with lease.hold(lock):
      lock.write_text('process 7 on there\n')
      time.sleep(0.2)
      with pytest.raises(WorkdirError, match='is now held by process 7 on there'):
        lease.check_held(lock)
    assert lock.read_text() == 'process 7 on there\n'

  def test_a_repeated_write_recognises_itself(self, lock, monkeypatch):
    upload = google.Blob.upload_from_string

    def twice(*args, **kwargs):  # as the client does if an answer is lost
      upload(*args, **kwargs)
      upload(*args, **kwargs)

    monkeypatch.setattr(google.Blob, 'upload_from_string', twice)
    with lease.hold(lock):
      time.sleep(0.2)
      lease.check_held(lock)
    assert not lock.exists()

  def test_a_workdir_is_claimed(self, lock):
    config = json.dumps({'seed': 0})
    with claim(lock.parent, config, ()):
      assert lock.exists()
      with pytest.raises(WorkdirError, match='in use'), claim(lock.parent, config, ()):
        pass
    with pytest.raises(ArgumentError, match='another config'):
      claim(lock.parent, json.dumps({'seed': 1}), ()).__enter__()
    assert not lock.exists()
    assert names(lock.parent) == ['config.json']


def hold_at_once(lock):
  """Lets four threads want a lease at the same time; exactly one must get it."""
  barrier = threading.Barrier(4)

  def want(_):
    barrier.wait()
    try:
      with lease.hold(lock):
        barrier.wait()
        return 'got it'
    except WorkdirError:
      barrier.wait()
      return 'refused'

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sorted(pool.map(want, range(4))) == ['got it', *['refused'] * 3]
