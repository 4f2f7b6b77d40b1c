"""Every config has exactly the default's keys, says how to run it, and trains on fake data."""

import dataclasses
import inspect
import json

import jax
import numpy as np
import pytest
from config_files import NAMES, load_config, load_module
from ml_collections import ConfigDict

from scs_jax import models, train
from scs_jax.data import augment
from scs_jax.train import optim
from scs_jax.train.config import default

MORE_ARGUMENTS = {
  'cifar10': ['variant=conv', 'resnet20,variant=conv', 'three_layers,variant=scs'],
  'imagenet': ['variant=conv', 'resnet18,variant=conv,batch=64,resolution=160,epochs=18'],
}
CASES = [
  (name, argument)
  for name in NAMES
  for argument in (
    None,
    *getattr(load_module(name), 'NETWORKS', ()),
    *MORE_ARGUMENTS.get(name, ()),
  )
]
SMALL_STACK = ({'kind': 'scs', 'features': 4}, {'kind': 'pool', 'window': 8}, {'kind': 'head'})
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
SMALL_DEFAULTS = {
  'autoencoder': {'widths': (3,), 'code': 2},
  'cct': {'width': 4, 'depth': 1, 'tokeniser': (3,)},
  'convmixer': {'width': 4, 'depth': 1},
  'densenet': {'layers': (1, 1), 'growth': 2},
  'hukkelas': {'width': 3, 'levels': 1},
  'resnet': {'widths': (3,), 'blocks': (1,)},
  'scs_net': {'stack': SMALL_STACK},
}


def load(name, argument):
  return load_config(name, argument) if argument else load_config(name)


def keys_of(config):
  """Returns the dotted keys of a config, those of empty parts included."""
  parts = {key: value for key, value in config.items() if isinstance(value, ConfigDict)}
  return set(config) | {f'{key}.{inner}' for key, part in parts.items() for inner in keys_of(part)}


def types_of(config):
  """Returns the type of each value of a config and of its parts."""
  parts = [value for value in config.values() if isinstance(value, ConfigDict)]
  return [config.get_type(key) for key in config] + [
    kind for part in parts for kind in types_of(part)
  ]


def trained(config, changes, folder):
  """Returns the metrics of a run of the config on fake data, made small by `changes`."""
  config.data.name = 'fake'
  config.data.train_split, config.data.eval_split = 'train[:16]', 'test[:10]'
  config.batch_size, config.total_epochs, config.log_every_steps = 16, 2.0, 1
  with config.ignore_type():
    config.model.update(changes)
  for layer in config.model.get('stack', ()):
    if 'features' in layer:
      layer['features'] = 4
  return train.train_and_evaluate(config, folder)


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_configs_are_complete(name, argument):
  """Every key can be overridden on the command line, and no key is misspelt."""
  config = load(name, argument)
  assert keys_of(config) == keys_of(default(config.model.name))
  assert json.loads(config.to_json()).keys() == set(config)
  # A plain None cannot be overridden on the command line; a placeholder can.
  assert type(None) not in types_of(config)


@pytest.mark.parametrize('name', models.MODELS)
def test_the_default_has_every_argument_of_what_it_configures(name):
  config = default(name)
  accepted = lambda f: set(inspect.signature(f).parameters) - {'self', 'rngs'}
  model = accepted(models.MODELS[name].__init__) - {'input_shape', 'num_classes', 'options'}
  options = {field.name for field in dataclasses.fields(models.LayerOptions)}
  assert set(config.model) == model | options | {'name'}
  assert set(config.optimizer) == accepted(optim.make) - {'total_steps'}
  assert set(config.augment) == accepted(augment.make) | {'mixup'}


@pytest.mark.parametrize(('name', 'argument'), CASES)
def test_configs_say_how_they_are_run(name, argument):
  text = load_module(name).__doc__ or ''
  assert f'--config=configs/{name}.py' in text
  assert 'Source' in text


@pytest.mark.parametrize('argument', SMALL)
def test_configs_run_on_fake_data(quick_compilation, argument, tmp_path):
  values = trained(load('cifar10', argument), SMALL[argument], tmp_path)
  assert np.isfinite(list(values.values())).all()
  assert set(values) == {'val/loss', 'val/psnr' if argument == 'autoencoder' else 'val/accuracy'}


@pytest.mark.parametrize('model', models.MODELS)
def test_the_default_of_every_model_is_an_experiment(model):
  config = default(model)
  config.data.name = 'fake'
  with config.ignore_type():
    config.model.update(SMALL_DEFAULTS[model])
  experiment = train.Experiment(config)
  params, _ = experiment.weight_shapes
  assert all(leaf.dtype == 'float32' for leaf in jax.tree.leaves(params))
  assert experiment.total_steps == round(30 * 512 / 128)


@pytest.mark.parametrize(
  ('name', 'argument'),
  [
    ('cifar10', 'resnet21'),
    ('cifar10', 'variant=cnn'),
    ('fashion_mnist', '2765'),
    ('gallery', 'mnist'),
    ('imagenet', 'batch=0'),
    ('mnist', 'deep'),
    ('records', 'cifar10'),
  ],
)
def test_an_unknown_argument_is_told_what_there_is(name, argument):
  with pytest.raises(ValueError, match=argument):
    load(name, argument)
