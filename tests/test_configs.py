"""Every config is complete, and makes a step on fake data."""

import inspect

import jax
import numpy as np
import pytest
from config_files import FOLDER, load_config, load_module

from scs_jax import optim, train
from scs_jax.data import augment
from scs_jax.models import scs_net

CASES = [
  (path.stem, argument)
  for path in sorted(FOLDER.glob('*.py'))
  for argument in ([*load_module('gallery').NETWORKS] if path.stem == 'gallery' else [None])
] + [('cifar10', 'conv')]


def load(name, argument):
  return load_config(name, argument) if argument else load_config(name)


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_configs_are_complete(name, argument):
  """Nothing is left to a default: a reader of a config sees every knob there is."""
  config = load(name, argument)
  accepted = lambda f: {p for p in inspect.signature(f).parameters if p not in ('self', 'rngs')}
  model = accepted(scs_net.ScsNet.__init__) - {'input_shape', 'num_classes', 'param_dtype'}
  assert set(config.model) == model | {'name'}
  assert set(config.optimizer) == accepted(optim.make) - {'total_steps'}
  assert set(config.augment) == accepted(augment.make)
  assert set(config) == set(load_config('quickstart'))
  assert config.to_json()


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_configs_say_how_they_are_run(name, argument):
  text = load_module(name).__doc__
  assert f'--config=configs/{name}.py' in text
  assert 'Source' in text


@pytest.mark.parametrize(('name', 'argument'), [('cifar10', None), ('cifar10', 'conv')])
def test_configs_run_on_fake_data(name, argument, tmp_path):
  config = load(name, argument)
  config.data.name = 'fake'
  config.data.train_split, config.data.eval_split = 'train[:16]', 'test[:10]'
  config.batch_size, config.total_epochs, config.log_every_steps = 16, 2, 1
  for layer in config.model.stack:
    if 'features' in layer:
      layer['features'] = 4
  values = train.train_and_evaluate(config, tmp_path)
  assert np.isfinite(list(values.values())).all()
  assert jax.process_count() == 1
