"""What a run does when it is stopped, disturbed, or robbed of its folder."""

import errno
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from test_train import assert_equal, restored_state, rows, small_config

from scs_jax import pictures, train
from scs_jax.data import batches
from scs_jax.errors import UserError
from scs_jax.train import Experiment, loop, losses, optim, sharding
from scs_jax.train.config import to_json
from scs_jax.train.watchdog import Watchdog
from scs_jax.workdir import Checkpoints, MetricLog, SaveError, WorkdirError, manifest


def at_batch(monkeypatch, number, action):
  """Calls `action` with the batch of that number before it is trained on."""
  original = batches.TrainBatches.__next__

  def disturbed(self):
    batch = original(self)
    if self.state()['step'] == number:
      batch = action(batch) or batch
    return batch

  monkeypatch.setattr(batches.TrainBatches, '__next__', disturbed)


@pytest.fixture(scope='module')
def finished_run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  train.train_and_evaluate(small_config(), workdir)
  return workdir


@pytest.fixture(scope='module')
def finished(finished_run):
  return restored_state(small_config(), finished_run)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_next_start_ends_with_the_same_bits(
  number, finished, tmp_path, monkeypatch, capsys
):
  before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
  with monkeypatch.context() as patch:
    at_batch(patch, 3, lambda batch: signal.raise_signal(number))
    train.train_and_evaluate(small_config(), tmp_path)
  assert f'stopped by {signal.Signals(number).name} after step 3' in capsys.readouterr().out
  assert signal.getsignal(signal.SIGINT) is before
  train.train_and_evaluate(small_config(), tmp_path)
  assert_equal(restored_state(small_config(), tmp_path), finished)


def poison(monkeypatch, number):
  """Makes the loss of one batch infinite."""

  def objective(outputs, images, labels, label_smoothing=0.0):
    values = losses.classification(outputs, images, labels % 10, label_smoothing)
    return {**values, 'loss': jnp.where(labels >= 10, jnp.inf, values['loss'])}

  monkeypatch.setitem(losses.OBJECTIVES, 'classification', objective)
  at_batch(monkeypatch, number, lambda batch: {**batch, 'label': batch['label'] + 10})


def test_a_rollback_skips_the_batches_since_the_checkpoint(tmp_path, monkeypatch, capsys):
  poison(monkeypatch, 6)  # checkpoints are at 4, 8 and 10
  values = train.train_and_evaluate(small_config(rollbacks=1), tmp_path)
  said = capsys.readouterr().out
  assert 'step 6: loss inf' in said
  assert 'on the batch of epoch' in said
  assert 'Rolled back to step 4' in said
  assert np.isfinite(values['val/loss'])
  assert list(rows(tmp_path, 'train/loss')) == list(range(1, 11))


def test_without_rollbacks_it_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
  poison(monkeypatch, 6)
  with pytest.raises(train.NonFiniteError, match=r'step 6: loss inf.* is that of step 4'):
    train.train_and_evaluate(small_config(), tmp_path)
  with Checkpoints(tmp_path / 'checkpoints', read_only=True) as checkpoints:
    assert checkpoints.verified_steps() == [4]


def test_a_workdir_in_use_is_refused(tmp_path):
  with (tmp_path / 'lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.write('process 1 on here')
    lock.flush()
    with pytest.raises(WorkdirError, match='in use by process 1 on here'):
      train.train_and_evaluate(small_config(), tmp_path)


def test_a_workdir_that_goes_away_is_missed(tmp_path, monkeypatch):
  at_batch(monkeypatch, 3, lambda batch: shutil.rmtree(tmp_path))
  with pytest.raises(WorkdirError, match='is gone'):
    train.train_and_evaluate(small_config(), tmp_path)


def full_disk(monkeypatch, times):
  """Lets the first saves fail."""
  original, left = manifest.fingerprints, [times]

  def fingerprints(path):
    if path.name.endswith('.pending') and left[0]:
      left[0] -= 1
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return original(path)

  monkeypatch.setattr(manifest, 'fingerprints', fingerprints)


def test_a_full_disk_stops_the_run(tmp_path, monkeypatch):
  full_disk(monkeypatch, 1)
  with pytest.raises(SaveError, match='No space left on device'):
    train.train_and_evaluate(small_config(), tmp_path)


def test_a_full_disk_is_survived_if_the_config_says_so(tmp_path, monkeypatch, capsys):
  full_disk(monkeypatch, 1)
  train.train_and_evaluate(small_config(on_save_error='continue'), tmp_path)
  assert 'No space left on device' in capsys.readouterr().out
  with Checkpoints(tmp_path / 'checkpoints', read_only=True) as checkpoints:
    assert checkpoints.verified_steps() == [8, 10]


def test_a_last_save_that_could_not_start_is_an_error(tmp_path, monkeypatch):
  sync = MetricLog.sync

  def full(log, step):
    if step == 10:
      raise SaveError('rows of step 10 cannot be written: No space left on device')
    return sync(log, step)

  monkeypatch.setattr(MetricLog, 'sync', full)
  with pytest.raises(SaveError, match='rows of step 10'):
    train.train_and_evaluate(small_config(on_save_error='continue'), tmp_path)


@pytest.mark.parametrize('policy', ['stop', 'continue'])
def test_a_nan_that_meets_a_failed_save_is_reported_as_a_nan(tmp_path, monkeypatch, capsys, policy):
  """The save of step 4 fails while step 5 is made. Only 'continue' may roll back after that."""
  full_disk(monkeypatch, 1)
  poison(monkeypatch, 5)
  config = small_config(on_save_error=policy, rollbacks=1)
  if policy == 'continue':
    train.train_and_evaluate(config, tmp_path)
    said = capsys.readouterr().out
    assert 'step 5: loss inf' in said
    assert 'saving step 4' in said
    assert 'Rolled back to step 0' in said
    return
  with pytest.raises(train.NonFiniteError, match=r'step 5: loss inf.* saving step 4 in .*No space'):
    train.train_and_evaluate(config, tmp_path)


def test_a_real_full_disk_ends_the_run_in_one_line(tmp_path, capfd):
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', str(disk)]
  if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('cannot mount a small tmpfs here')
  try:
    with pytest.raises(SaveError, match=rf'saving step 10 in {disk}.*No space left'):
      train.train_and_evaluate(small_config(on_save_error='continue'), disk / 'run')
  finally:
    subprocess.run(['umount', str(disk)], check=True)
  assert 'Traceback' not in ''.join(capfd.readouterr())


def test_a_picture_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
  write = lambda model, image, folder, name: (folder / 'x').write_text(name)
  monkeypatch.setattr(pictures, 'draw', write)
  experiment = Experiment(small_config())
  state = experiment.first_state(experiment.mesh())
  assert loop.draw_pictures(experiment, state, epath.Path(tmp_path)) == ''
  assert [path.name for path in (tmp_path / 'pictures').iterdir()] == ['x']
  shutil.rmtree(tmp_path / 'pictures')
  (tmp_path / 'pictures').write_text('a file')
  assert loop.draw_pictures(experiment, state, epath.Path(tmp_path)).startswith('no pictures: ')


def test_what_does_not_change_the_training_may_change(finished_run, tmp_path, monkeypatch):
  run = shutil.copytree(finished_run, tmp_path / 'run')
  config = small_config(eval_batch_size=7, eval_every_epochs=0.5, save_every_epochs=1.0)
  config.data.update(data_dir='/elsewhere', workers=3, eval_split='test[:90]')
  before = train.evaluate_checkpoint(small_config(), run)
  assert {
    'step': 10,
    **train.train_and_evaluate(config, run),
  } == before  # nothing was left to train
  # An evaluation needs neither an optimizer nor a batch size that fits the devices.
  for module, name in ((optim, 'make'), (optim, 'make_schedule'), (sharding, 'check_batch')):
    monkeypatch.setattr(module, name, None)
  assert train.evaluate_checkpoint(config, run) != before  # of 90 digits instead of 100
  config.data.name = 'fake'
  with pytest.raises(ValueError, match=r'another config \(data.name: mnist5k there, fake here\)'):
    train.evaluate_checkpoint(config, run)


def test_parts_of_a_run_are_not_resumed_as_another_one(finished_run, tmp_path):
  def refused(config, message):
    with pytest.raises(UserError, match=message):
      train.train_and_evaluate(config, run)

  for number, (damage, config, message) in enumerate(
    [
      (lambda run: (run / 'config.json').unlink(), small_config(seed=7), 'no config.json'),
      (lambda run: shutil.rmtree(run / 'checkpoints'), small_config(), 'lost its checkpoints'),
      (lambda run: (run / 'metrics.jsonl').unlink(), small_config(), 'metrics.jsonl is missing'),
      (foreign_config, small_config(seed=7), 'step 10 .* another config than that of config.json'),
    ]
  ):
    run = pathlib.Path(shutil.copytree(finished_run, tmp_path / f'{number}'))
    damage(run)
    before = sorted(run.rglob('*'))
    refused(config, message)
    assert sorted(run.rglob('*')) == before


def foreign_config(run):
  """Puts the config of another run in the place of its own."""
  (run / 'config.json').write_text(to_json(small_config(seed=7)))


def test_a_stall_is_reported_with_its_cause_and_stacks(capfd):
  with Watchdog(0.2) as watchdog:
    watchdog.alive('waiting for batch 7')
    time.sleep(0.7)
  said = capfd.readouterr().err
  assert 'no progress' in said
  assert 'while waiting for batch 7' in said
  assert 'test_a_stall_is_reported' in said


PROGRAM = """
import sys
import jax
jax.config.update('jax_num_cpu_devices', int(sys.argv[1]))
if len(sys.argv) > 3:
  jax.distributed.initialize(sys.argv[3], 2, int(sys.argv[4]))
from test_train import small_config
from scs_jax import train
train.train_and_evaluate(small_config(), sys.argv[2])
"""


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def test_two_processes_equal_one(tmp_path):
  """Two processes with two devices each, and one with four: the same losses, one set of files."""
  here = os.path.dirname(__file__)
  environment = {**os.environ, 'PYTHONPATH': f'{here}:{os.path.dirname(here)}'}
  start = lambda *words: subprocess.Popen(
    [sys.executable, '-c', PROGRAM, *map(str, words)],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  address = f'127.0.0.1:{free_port()}'
  runs = [start(2, tmp_path / 'two', address, i) for i in range(2)]
  outputs = [run.communicate(timeout=240)[0] for run in runs]
  assert [run.returncode for run in runs] == [0, 0], outputs
  one = start(4, tmp_path / 'one')
  assert not one.wait(240), one.stdout.read()
  two, one = (rows(tmp_path / name, 'train/loss') for name in ('two', 'one'))
  np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=0, atol=1e-5)
  assert list(two) == list(range(1, 11))
  lines = [json.loads(line) for line in (tmp_path / 'two' / 'metrics.jsonl').open()]
  assert len({line['step'] for line in lines if 'train/loss' in line}) == 10
  with Checkpoints(tmp_path / 'two' / 'checkpoints', read_only=True) as checkpoints:
    assert checkpoints.latest_step() == 10
