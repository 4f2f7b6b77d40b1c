"""Every config is complete, and makes a step on fake data."""

import inspect

import numpy as np
import pytest
from config_files import FOLDER, load_config, load_module
from ml_collections import ConfigDict

from scs_jax import models, train
from scs_jax.data import augment
from scs_jax.train import optim

ARGUMENTS = {
  'gallery': [*load_module('gallery').NETWORKS],
  'cifar10': [*load_module('cifar10').NETWORKS, 'variant=conv', 'resnet20,variant=conv'],
  'mnist': [*load_module('mnist').STACKS],
}
CASES = [
  (path.stem, argument)
  for path in sorted(FOLDER.glob('*.py'))
  for argument in (None, *ARGUMENTS.get(path.stem, []))
]
SMALL = {
  'three_layers': {},
  'variant=conv': {},
  'hukkelas_residual': {'width': 3, 'levels': 1},
  'resnet20': {'widths': (3,), 'blocks': (1,)},
  'convmixer256_8': {'width': 4, 'depth': 1},
  'densenet100': {'layers': (1, 1), 'growth': 2},
  'cct2': {'width': 4, 'depth': 1, 'tokeniser': (3,)},
  'autoencoder': {'widths': (3,), 'code': 2},
}


def load(name, argument):
  return load_config(name, argument) if argument else load_config(name)


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_configs_are_complete(name, argument):
  """Nothing is left to a default: a reader of a config sees every knob there is."""
  config = load(name, argument)
  accepted = lambda f: {p for p in inspect.signature(f).parameters if p not in ('self', 'rngs')}
  model = accepted(models.MODELS[config.model.name].__init__) - {
    'input_shape',
    'num_classes',
    'param_dtype',
  }
  assert set(config.model) == model | {'name'}
  assert set(config.optimizer) == accepted(optim.make) - {'total_steps'}
  assert set(config.augment) == accepted(augment.make)
  assert set(config) == set(load_config('quickstart'))
  assert config.to_json()
  for part in (config, *(value for value in config.values() if isinstance(value, ConfigDict))):
    for key in part:  # a plain None cannot be overridden on the command line, a placeholder can
      assert part.get_type(key) is not type(None), key


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_configs_say_how_they_are_run(name, argument):
  text = load_module(name).__doc__
  assert f'--config=configs/{name}.py' in text
  assert 'Source' in text


@pytest.mark.parametrize('argument', SMALL)
def test_configs_run_on_fake_data(quick_compilation, argument, tmp_path):
  config = load('cifar10', argument)
  config.data.name = 'fake'
  config.data.train_split, config.data.eval_split = 'train[:16]', 'test[:10]'
  config.batch_size, config.total_epochs, config.log_every_steps = 16, 2.0, 1
  with config.ignore_type():
    config.model.update(SMALL[argument])
  for layer in config.model.get('stack', ()):
    if 'features' in layer:
      layer['features'] = 4
  values = train.train_and_evaluate(config, tmp_path)
  assert np.isfinite(list(values.values())).all()
  assert set(values) == {'val/loss', 'val/psnr' if argument == 'autoencoder' else 'val/accuracy'}


@pytest.mark.parametrize(
  ('name', 'argument'), [('cifar10', 'resnet21'), ('cifar10', 'variant=cnn'), ('mnist', 'deep')]
)
def test_an_unknown_argument_is_told_what_there_is(name, argument):
  with pytest.raises(ValueError, match=argument):
    load(name, argument)
