"""The loop, end to end, on the real quickstart config made small."""

import collections
import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from config_files import load_config
from jax.sharding import Mesh
from ml_collections import ConfigDict

from scs_jax import data, train
from scs_jax.data import batches
from scs_jax.train import Experiment, report, sharding
from scs_jax.train.config import default
from scs_jax.train.loop import is_boundary
from scs_jax.workdir import CheckpointError, Checkpoints, folder

SMALL_STACK = (
  {'kind': 'scs', 'features': 4, 'strides': 2},
  {'kind': 'pool'},
  {'kind': 'head'},
)


def small_config(**changes) -> ConfigDict:
  """The quickstart in ten steps: five evaluations, and as many checkpoints as epochs."""
  config = load_config('quickstart')
  config.data.train_split = 'train[:128]'
  config.data.eval_split = 'test[:100]'
  config.batch_size = 64
  config.total_epochs = 5
  config.eval_every_epochs = 1
  config.save_every_epochs = 2
  config.ema_decay = None
  config.log_every_steps = 1
  config.model.stack = SMALL_STACK
  config.unlock()
  config.update(changes)
  return config


@pytest.mark.parametrize(
  ('period', 'steps'), [(2.0, [2, 4, 6, 8]), (2.5, [3, 5, 8]), (0.5, list(range(1, 9))), (9.0, [])]
)
def test_boundaries_of_fractional_epochs(period, steps):
  assert [step for step in range(1, 9) if is_boundary(step, period)] == steps


def rows(workdir, name):
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return {row['step']: row[name] for row in map(json.loads, lines) if name in row}


def restored_state(config, workdir):
  """Returns the newest state of a workdir, as the plain dicts that are on disk."""
  experiment = Experiment(config)
  with Checkpoints(folder(workdir) / 'checkpoints', read_only=True) as checkpoints:
    restored = checkpoints.restore(experiment.abstract_state(experiment.mesh()).to_dict())
  return jax.tree.map(np.asarray, restored.state)


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run that nothing disturbed: its workdir and what it returned."""
  workdir = tmp_path_factory.mktemp('finished')
  return workdir, train.train_and_evaluate(small_config(), workdir)


def test_a_run_writes_everything_and_learns(finished):
  workdir, values = finished
  losses = rows(workdir, 'train/loss')
  assert list(losses) == list(range(1, 11))
  assert losses[10] < losses[1]
  assert list(rows(workdir, 'val/accuracy')) == [2, 4, 6, 8, 10]
  assert rows(workdir, 'val/accuracy')[10] == values['val/accuracy']
  names = {path.name for path in workdir.iterdir()}
  assert {'config.json', 'metrics.jsonl', 'checkpoints', 'pictures'} <= names
  assert any(name.startswith('events') for name in names)
  assert (workdir / 'pictures' / 'kernels.png').read_bytes().startswith(b'\x89PNG')


def test_evaluation_mode_repeats_the_last_evaluation_and_changes_nothing(finished):
  workdir, values = finished
  before = sorted(workdir.rglob('*'))
  again = train.evaluate_checkpoint(small_config(), workdir)
  assert again == {'step': 10, **values}
  earlier = train.evaluate_checkpoint(small_config(), workdir, 8)
  assert earlier['val/loss'] == rows(workdir, 'val/loss')[8]
  assert sorted(workdir.rglob('*')) == before
  with pytest.raises(CheckpointError, match='no step 3'):
    train.evaluate_checkpoint(small_config(), workdir, 3)


def test_a_trained_model_answers_as_it_did_when_it_was_evaluated(finished):
  workdir, values = finished
  model = train.trained_model(small_config(), workdir)
  examples = data.load('mnist5k', 'test[:100]')
  answers = model(train.as_float(jnp.asarray(examples.images))).argmax(-1)
  assert np.mean(answers == examples.labels) == pytest.approx(values['val/accuracy'])
  with pytest.raises(CheckpointError, match='no step 3'):
    train.trained_model(small_config(), workdir, 3)


def test_a_finished_run_is_left_as_it_is(finished):
  workdir, values = finished
  before = (workdir / 'metrics.jsonl').read_text()
  assert train.train_and_evaluate(small_config(), workdir) == values
  assert (workdir / 'metrics.jsonl').read_text() == before


@pytest.mark.parametrize('stop', [3, 6, 9])
def test_interrupted_equals_uninterrupted_bit_for_bit(finished, tmp_path, monkeypatch, stop):
  workdir, values = finished
  original = batches.TrainBatches.__next__

  def stopping(self):
    if self.state()['step'] == stop:
      raise KeyboardInterrupt
    return original(self)

  monkeypatch.setattr(batches.TrainBatches, '__next__', stopping)
  with pytest.raises(KeyboardInterrupt):
    train.train_and_evaluate(small_config(), tmp_path)
  monkeypatch.undo()
  assert train.train_and_evaluate(small_config(), tmp_path) == values
  assert_equal(restored_state(small_config(), tmp_path), restored_state(small_config(), workdir))
  for name in ('train/loss', 'train/gradient_norm', 'val/loss'):
    assert rows(tmp_path, name) == rows(workdir, name)  # none missing, none twice


@pytest.mark.parametrize('name', ['muon', 'schedule_free_adamw'])
def test_every_kind_of_optimizer_resumes_bit_for_bit(quick_compilation, tmp_path, name):
  """With split parameters too. What a schedule-free run evaluates is not what it differentiates."""
  config = small_config(total_epochs=2, save_every_epochs=1)
  config.optimizer.update(name=name, cycle_momentum_to=None)
  config.mesh.fsdp = 2

  def stop(step, metrics):
    if step == 3:
      raise KeyboardInterrupt

  values = train.run(Experiment(config), tmp_path / 'whole')
  with pytest.raises(KeyboardInterrupt):
    train.run(Experiment(config), tmp_path / 'parts', sinks=[stop])
  assert train.run(Experiment(config), tmp_path / 'parts') == values
  assert_equal(*(restored_state(config, tmp_path / part) for part in ('whole', 'parts')))
  assert train.evaluate_checkpoint(config, tmp_path / 'whole') == {'step': 4, **values}
  last = train.evaluate_checkpoint(config, tmp_path / 'whole', averaged=False)
  assert (last['val/loss'] == values['val/loss']) == (name == 'muon')


def test_a_damaged_checkpoint_is_passed_over(finished, tmp_path, capsys):
  workdir, values = finished
  config = small_config()
  train.train_and_evaluate(config, tmp_path)
  file = max((tmp_path / 'checkpoints' / '10').rglob('*'), key=lambda p: p.stat().st_size)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 0xFF
  file.write_bytes(data)
  capsys.readouterr()
  assert train.train_and_evaluate(config, tmp_path) == values
  said = capsys.readouterr().out
  assert 'step 10 is damaged' in said
  assert 'going on at step 8' in said
  assert_equal(restored_state(config, tmp_path), restored_state(config, workdir))


def test_averaged_parameters_are_saved_and_evaluated(tmp_path, finished):
  config = small_config(ema_decay=0.5)
  values = train.train_and_evaluate(config, tmp_path)
  assert train.evaluate_checkpoint(config, tmp_path) == {'step': 10, **values}
  state = restored_state(config, tmp_path)
  kernel = lambda tree: tree['scs_0']['kernel']
  assert not np.array_equal(kernel(state['ema']['params']), kernel(state['params']))
  # Averaging changes nothing about training: the last parameters are those of a run without it.
  last = train.evaluate_checkpoint(config, tmp_path, averaged=False)
  assert last == {'step': 10, **finished[1]}
  assert last['val/loss'] != values['val/loss']
  model = train.trained_model(config, tmp_path)
  np.testing.assert_array_equal(model.scs_0.kernel[...], kernel(state['ema']['params']))
  examples = data.load('mnist5k', config.data.eval_split)
  logits = model(train.as_float(jnp.asarray(examples.images)))
  entropy = optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels)
  assert float(entropy.mean()) == pytest.approx(values['val/loss'], abs=1e-6)


@pytest.mark.parametrize('decay', [0.0, 0.5, 0.999])
def test_the_average_is_that_of_the_steps_alone(decay):
  """Parameters and running statistics weigh `decay**age`; the first weights are not in it."""
  config = small_config(ema_decay=decay, batch_size=8)
  config.model.variant = 'conv'
  experiment = Experiment(config)
  mesh = experiment.mesh()
  state, seen = experiment.first_state(mesh), []
  step, batches = experiment.train_step(mesh), experiment.train_batches()
  for _ in range(4):
    state, _ = step(state, sharding.to_global(mesh, next(batches)))
    seen.append(jax.tree.map(np.asarray, {'params': state.params, 'statistics': state.statistics}))
  weights = decay ** np.arange(3.0, -1, -1)
  average = lambda *values: np.average(values, axis=0, weights=weights)
  want = jax.tree.map(average, *seen)
  mean = lambda tree: np.asarray(tree['statistics']['scs_0']['norm']['mean'])
  assert np.abs(mean(seen[0]) - mean(seen[-1])).max() > 1e-3
  assert state.average.steps == 4
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
    {'params': state.average.params, 'statistics': state.average.statistics},
    want,
  )


def test_a_stack_without_kernels_in_front_has_no_pictures(quick_compilation, tmp_path, capfd):
  config = small_config(total_epochs=0.5)  # one step
  config.model.stack = ({'kind': 'pool', 'window': 4}, *SMALL_STACK)
  assert 'val/accuracy' in train.train_and_evaluate(config, tmp_path)
  assert not (tmp_path / 'pictures').exists()
  assert 'no pictures: the first layer has no kernels' in ''.join(capfd.readouterr())


def test_a_network_whose_outputs_vanish_is_told(quick_compilation, tmp_path, finished, capsys):
  config = small_config(total_epochs=1)
  config.model.update(q_init=1e6, scale_init=None)
  train.train_and_evaluate(config, str(tmp_path / 'run'))
  assert 'no better than guessing' in capsys.readouterr().out
  _, values = finished
  assert not report.guesses(values, 10)


@pytest.mark.parametrize('eval_batch_size', [1, 7, 64, 1000])
def test_every_evaluation_example_counts_once(eval_batch_size):
  experiment = Experiment(small_config(eval_batch_size=eval_batch_size))
  mesh = experiment.mesh()
  state = experiment.first_state(mesh)
  images, labels = experiment.eval_set.images, experiment.eval_set.labels
  logits = experiment.model_of(state)(train.as_float(jnp.asarray(images)))
  accuracy = np.mean(np.argmax(np.asarray(logits), -1) == labels)
  values = experiment.evaluation(mesh)(state.params, state.statistics)
  assert values['val/accuracy'] == pytest.approx(accuracy, abs=1e-7)


def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(tmp_path):
  config = small_config()
  config.optimizer.schedule.update(name='constant', peak_learning_rate=3e38)
  config.optimizer.cycle_momentum_to = None
  with pytest.raises(train.NonFiniteError, match=r'step 2: loss inf.*last good checkpoint'):
    train.train_and_evaluate(config, tmp_path)
  assert not list((tmp_path / 'checkpoints').glob('[0-9]*'))


def test_a_workdir_belongs_to_one_config(finished):
  workdir, _ = finished
  config = small_config()
  config.optimizer.schedule.peak_learning_rate = 0.5
  config.seed = 7
  with pytest.raises(
    ValueError, match=r'optimizer\.schedule\.peak_learning_rate.*seed: 0 there, 7'
  ):
    train.train_and_evaluate(config, workdir)
  with pytest.raises(ValueError, match='seed'):
    train.evaluate_checkpoint(config, workdir)
  config = small_config(log_every_steps=3, keep_latest=7)
  config.mesh.fsdp = 2
  assert 'val/loss' in train.train_and_evaluate(config, workdir)


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('batch_size', 12, 'batch_size 12 does not divide by the 8 devices: use 8 or 16'),
    ('batch_size', 0, 'batch_size'),
    ('total_epochs', 0, 'total_epochs must be greater than 0'),
    ('model.name', 'scsnet', "did you mean 'scs_net'"),
    ('model.variant', 'cnn', 'unknown variant'),
    ('model.q_init', -1.0, 'q_init must be a positive number'),
    ('data.name', 'minst5k', 'mnist5k'),
    ('data.train_split', 'validation', 'validation'),
    ('data.train_split', 'train[:0]', 'empty'),
    ('optimizer.name', 'adamx', "did you mean 'adamw'"),
    ('optimizer.schedule.name', 'cosin', "did you mean 'cosine'"),
    ('optimizer.momentum', 1.0, r'momentum must be in \[0, 1\)'),
    ('optimizer.schedule.name', 'constant', 'cycle_momentum_to'),
    ('optimizer.clip_norm', -1.0, 'clip_norm must be greater than 0 or None'),
    ('optimizer.weight_decay', -1.0, 'weight_decay must be at least 0'),
    ('mesh.data', 3, 'does not fit the 8 devices'),
    ('augment.shift', -1, 'shift'),
    ('keep_latest', 0, 'keep_latest'),
    ('label_smoothing', 1.5, 'label_smoothing'),
    ('ema_decay', 1.5, 'ema_decay'),
    ('accumulate_steps', 3, r'batch_size 64 .* 3 parts .*: use 48 or 72'),
    ('augment.mixup', -0.1, 'augment.mixup must be at least 0'),
    ('log_every_steps', 0, 'log_every_steps'),
    ('eval_batch_size', 0, 'eval_batch_size'),
  ],
)
def test_bad_configs_are_refused(tmp_path, key, value, message):
  config = small_config()
  *path, last = key.split('.')
  place = config
  for name in path:
    place = place[name]
  place[last] = value
  with pytest.raises(ValueError, match=message):
    train.train_and_evaluate(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()  # a refused config claims no workdir


def test_an_empty_workdir_is_refused_instead_of_the_current_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for use in train.train_and_evaluate, train.evaluate_checkpoint, train.trained_model:
    with pytest.raises(ValueError, match=r"--workdir is ''.*unset variable"):
      use(small_config(), '')
  assert not list(tmp_path.iterdir())


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ValueError, match=r'workdir .*file.* cannot be written'):
    train.train_and_evaluate(small_config(), tmp_path / 'file')


def steps_on(device_count, steps, variant, dtype, fsdp=1):
  """Losses of the first steps of the small network on that many devices."""
  devices = np.array(jax.devices()[:device_count]).reshape(-1, fsdp)
  mesh = Mesh(devices, sharding.AXES)
  config = small_config(total_epochs=steps / 4, label_smoothing=0.1)
  config.data.train_split = 'train[:256]'
  config.augment.update(rotate=0.0, translate=0.0, scale=(1.0, 1.0), shear=0.0, shift=1)
  config.model.update(variant=variant, dtype=dtype, param_dtype=dtype)
  config.optimizer.schedule.peak_learning_rate = 0.01
  experiment = Experiment(config)
  assert experiment.total_steps == steps
  state, step = experiment.first_state(mesh), experiment.train_step(mesh)
  seen, batches = [], experiment.train_batches()
  for _ in range(steps):
    state, metrics = step(state, sharding.to_global(mesh, next(batches)))
    seen.append(float(metrics['loss']))
  return np.array(seen)


@pytest.mark.parametrize('variant', ['scs', 'conv'])
def test_eight_devices_equal_one_in_float32(variant):
  one, eight = (steps_on(n, 10, variant, 'float32') for n in (1, 8))
  np.testing.assert_allclose(eight, one, rtol=0, atol=1e-5)
  split = steps_on(8, 10, variant, 'float32', fsdp=4)
  np.testing.assert_allclose(split, eight, rtol=0, atol=1e-6)


def test_eight_devices_equal_one_in_float64():
  with jax.enable_x64(True):
    one, eight = (steps_on(n, 50, 'scs', 'float64') for n in (1, 8))
  assert one[-1] < one[0]
  np.testing.assert_allclose(eight, one, rtol=0, atol=1e-9)


@pytest.mark.parametrize('layout', ['data', 'fsdp'])
def test_a_step_moves_parameters_and_never_images(quick_compilation, layout):
  """Each split parameter is gathered once, gradients are reduced, and nothing else is exchanged."""
  config = default('resnet')
  config.model.update(widths=(64,), blocks=(1,), block='bottleneck', large_stem=True)
  config.batch_size = 16
  if layout == 'fsdp':
    config.mesh.update(data=1, fsdp=-1)
  images = np.zeros((16, 32, 32, 3), np.uint8)
  examples = data.Examples(images, np.arange(16, dtype=np.int32) % 8, num_classes=8)
  experiment = Experiment(config, train=examples, test=examples)
  mesh = experiment.mesh()
  rows = sharding.to_global(mesh, next(experiment.train_batches()))
  shapes = experiment.abstract_state(mesh)
  text = experiment.train_step(mesh).lower(shapes, rows).compile().as_text()
  kinds = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
  found = collections.Counter(re.findall(rf' ({"|".join(kinds)})(?:-start)?\(', text))
  split = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(shapes.params))
  assert (split > 0) == (layout == 'fsdp')
  assert set(found) <= {'all-reduce', 'all-gather', 'reduce-scatter'}
  assert found['all-gather'] == split
