"""An experiment: a config, built."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from test_models import OWN
from test_train import assert_equal, small_config

import scs_jax
from scs_jax import data, train
from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment, config_file, sharding
from scs_jax.train.config import default, from_dict, to_json

SIZES = {'input_shape': (8, 8, 3), 'num_classes': 4}


@pytest.fixture
def own_config(tmp_path, monkeypatch):
  """Of a network with dropout and BatchNorm."""
  (tmp_path / 'nets_of_the_user.py').write_text(OWN)
  monkeypatch.syspath_prepend(tmp_path)
  config = default('nets_of_the_user:MyNet')
  config.data.name = 'fake'
  config.batch_size = 16
  config.ema_decay = 0.9
  return config


def states(config, steps=3):
  experiment = Experiment(config)
  mesh = experiment.mesh()
  step, state = experiment.train_step(mesh), experiment.first_state(mesh)
  batches = experiment.train_batches()
  for _ in range(steps):
    state, metrics = step(state, sharding.to_global(mesh, next(batches)))
  return experiment, jax.tree.map(np.asarray, state), float(metrics['loss'])


def test_dropout_and_batch_norm_of_ones_own_module_obey_the_loop(own_config):
  experiment, state, loss = states(own_config)
  _, again, same_loss = states(own_config)
  assert_equal(state, again)  # what dropout draws depends on the seed and the batch alone
  assert loss == same_loss
  assert set(state.statistics) == {'norm'}  # and no stream of random keys is saved
  assert np.abs(state.statistics['norm']['mean']).max() > 0
  own_config.model.rate = 0.0
  _, other, _ = states(own_config)
  assert not np.array_equal(other.params['head']['kernel'], state.params['head']['kernel'])
  model = experiment.model_of(state)
  x = jnp.asarray(experiment.eval_set.images[:4] / np.float32(255))
  np.testing.assert_array_equal(model(x), model(x))
  np.testing.assert_allclose(model(x)[:2], model(x[:2]), rtol=1e-5)  # statistics of no batch


def test_two_seeds_drop_other_values(own_config):
  losses = []
  for seed in (0, 1):
    own_config.seed = seed
    experiment = Experiment(own_config)
    model = experiment.model()
    params, statistics = (train.steps.split(model))[:2]
    merged = experiment.structure.merge(params, statistics, train=True, key=jax.random.key(seed))
    losses.append(merged.dropout(jnp.ones(1000)))
  assert 0.3 < np.mean(losses[0] == 0) < 0.7
  assert not np.array_equal(*losses)


def test_sizes_build_a_model_without_any_data():
  config = default('resnet')
  config.data.name = 'a data set that is nowhere'
  config.model.update(widths=(4,), blocks=(1,))
  model = Experiment(config, sizes=SIZES).model()
  assert model(jnp.ones((2, 8, 8, 3))).shape == (2, 4)


def test_given_examples_take_the_place_of_the_configs():
  images = np.zeros((32, 8, 8, 3), np.uint8)
  examples = data.Examples(images, np.arange(32, dtype=np.int32) % 4, num_classes=4)
  config = default('resnet')
  config.data.name = 'a data set that is nowhere'
  experiment = Experiment(config, train=examples, test=examples)
  assert experiment.sizes == SIZES
  assert experiment.total_steps == round(30 * 32 / 128)
  assert experiment.config.data.name == 'examples'  # a later run must not take others for them
  assert config.data.name == 'a data set that is nowhere'


def headed():
  """Returns a config whose network is a linear head."""
  config = default()
  config.model.stack = ({'kind': 'head'},)
  return config


def grey(count, num_classes=None, names=None, size=8):
  labels = np.arange(count) % (num_classes or 3)
  images = np.full((count, size, size, 1), 70, np.uint8)
  return data.Examples(images, labels, num_classes, names)


def test_a_test_set_may_have_no_example_of_the_last_class():
  experiment = Experiment(headed(), train=grey(9, names=['a', 'b', 'c']), test=grey(2))
  assert experiment.sizes['num_classes'] == 3
  assert experiment.class_names == experiment.eval_set.class_names == ('a', 'b', 'c')
  experiment.train_batches()


@pytest.mark.parametrize(
  ('train_set', 'test_set', 'message'),
  [
    (grey(9), grey(9, size=9), r'training has images of shape \(8, 8, 1\), evaluation \(9, 9, 1\)'),
    (
      grey(9),
      grey(9, 4),
      r'training has the number of classes 3, evaluation 4\. Make them the same',
    ),
    (
      grey(9, names=['a', 'b', 'c']),
      grey(9, names=['a', 'b', 'd']),
      r"training has the classes \('a', 'b', 'c'\), evaluation \('a', 'b', 'd'\)",
    ),
    (
      grey(9, 1),
      grey(9, 1),
      r"has one class only, .* add a class, or set objective='reconstruction",
    ),
  ],
)
def test_training_and_evaluation_must_have_the_same_images_and_classes(
  train_set, test_set, message
):
  with pytest.raises(ArgumentError, match=message):
    Experiment(headed(), train=train_set, test=test_set).train_batches()


def test_names_of_classes_in_the_config_are_kept_or_refused():
  config = headed()
  config.data.class_names = ('x', 'y', 'z')
  experiment = Experiment(config, train=grey(9, names=['a', 'b', 'c']), test=grey(9))
  assert experiment.class_names == ('x', 'y', 'z')
  config.data.class_names = ('x', 'y')
  with pytest.raises(ArgumentError, match=r'class_names must be 3 different strings'):
    Experiment(config, train=grey(9), test=grey(9))
  with pytest.raises(ArgumentError, match=r'class_names must be 10 different strings'):
    Experiment(config).sizes  # noqa: B018  # the data set is loaded by this


def test_ones_own_pictures_train_and_their_classes_are_named(
  tmp_path, monkeypatch, capsys, quick_compilation
):
  for split, count in (('train', 32), ('test', 8)):
    for value, name in ((40, 'dark'), (220, 'li$ght')):
      folder = tmp_path / 'pictures' / split / name
      folder.mkdir(parents=True)
      for i in range(count):
        size, form = (12 + i, 15), ('png', 'jpg', 'gif', 'bmp', 'tif', 'webp', 'ppm', 'jp2')[i % 8]
        Image.new('RGB', size, (value, value, i)).save(folder / f'{i}.{form}')
  config = small_config(total_epochs=2)
  config.data.update(name=f'folder:{tmp_path}/pictures', train_split='train', eval_split='test')
  config.data.resolution = 12
  with monkeypatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    values = train.run(Experiment(config), tmp_path / 'run')
  assert np.isfinite(values['val/loss'])
  lines = capsys.readouterr().out.splitlines()
  assert f'folder:{tmp_path}/pictures (2 classes: dark, li$ght): ' in lines[0]
  assert not any('no pictures' in line for line in lines)
  assert {path.name for path in (tmp_path / 'run' / 'pictures').iterdir()} == {
    'kernels.png',
    'feature_maps.png',
  }
  written = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert written['data']['class_names'] == ['dark', 'li$ght']
  shutil.rmtree(tmp_path / 'pictures')
  model = scs_jax.load(tmp_path / 'run')
  assert model.class_names == ('dark', 'li$ght')
  assert nnx.jit(model)(jnp.ones((1, 12, 12, 3))).shape == (1, 2)
  written['data']['class_names'] = ['dark']
  (tmp_path / 'run' / 'config.json').write_text(json.dumps(written))
  with pytest.raises(ArgumentError, match='class_names must be 2 different strings'):
    scs_jax.load(tmp_path / 'run')


def test_an_evaluation_loads_no_training_images():
  config = small_config()
  config.data.train_split = 'a split that is nowhere'
  experiment = Experiment(config)
  mesh = experiment.mesh()
  params, statistics, _ = train.steps.split(experiment.model())
  assert 'val/accuracy' in experiment.evaluation(mesh)(params, statistics)


def test_a_config_is_the_same_after_it_was_written_and_read():
  config = small_config(ema_decay=0.5)
  again = from_dict(json.loads(to_json(config)), 'here')
  assert to_json(again) == to_json(config)
  assert again.augment.scale == config.augment.scale  # a tuple again
  with pytest.raises(ValueError, match=r'here is not the config of a run.*optimizr'):
    from_dict({**json.loads(to_json(config)), 'optimizr': {}}, 'here')


def test_a_workdir_says_by_itself_what_it_holds(tmp_path, monkeypatch):
  config = small_config(total_epochs=1)
  train.run(Experiment(config), tmp_path / 'run')
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  monkeypatch.chdir(elsewhere)
  with monkeypatch.context() as patch:
    patch.setattr(data, 'load', None)  # no data set is read
    model = scs_jax.load(tmp_path / 'run')
  examples = data.load('mnist5k', config.data.eval_split)
  accuracy = np.mean(
    model(train.as_float(jnp.asarray(examples.images))).argmax(-1) == examples.labels
  )
  values = train.evaluate_checkpoint(config, tmp_path / 'run')
  assert accuracy == pytest.approx(values['val/accuracy'])
  with pytest.raises(ValueError, match='holds no run'):
    scs_jax.load(elsewhere)


def test_a_workdir_of_0_1_0_loads_and_resumes(quick_compilation, version_0_1_0, capsys):
  assert not (version_0_1_0 / 'model.json').exists()
  model = scs_jax.load(version_0_1_0)
  experiment = Experiment(config_file.load(f'{version_0_1_0}/config.json'))
  evaluated = train.evaluate(experiment, version_0_1_0)
  values = train.run(experiment, version_0_1_0)
  assert evaluated == {'step': experiment.total_steps, **values}
  assert 'nothing was left to train' in capsys.readouterr().out
  again = scs_jax.load(version_0_1_0)  # without data: the run wrote the sizes
  assert (version_0_1_0 / 'model.json').exists()
  x = jnp.ones((1, *experiment.sizes['input_shape']))
  np.testing.assert_array_equal(again(x), model(x))
