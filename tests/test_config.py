"""Keys of the config: their types and ranges, and what a word on the command line means."""

import json
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from ml_collections import ConfigDict

from scs_jax import models
from scs_jax.errors import ArgumentError
from scs_jax.train.config import assign, check, default, from_dict, leaves, read, to_json
from scs_jax.train.keys import KEYS, keys_of

STACK = ({'kind': 'scs', 'features': 4, 'window': 5}, {'kind': 'head'})


class Own(nnx.Module):
  """A network of a user, with every way to write an argument."""

  def __init__(
    self,
    input_shape,
    num_classes,
    required,
    width=8,
    annotated: float = 1,
    maybe: int | None = None,
    mixed: int | float = 1,
    mode: Literal['fast', 'exact'] = 'fast',
    sizes: tuple[int, ...] = (1, 2),
    options_of_mine: dict | None = None,
    anything=None,
    activation: Callable = nnx.relu,
    dtype=jnp.bfloat16,
    *,
    rngs,
    **more,
  ):
    pass


@pytest.fixture
def own(monkeypatch):
  monkeypatch.setitem(models.MODELS, 'own:Own', Own)
  monkeypatch.setattr(models.own, 'find', lambda *_: Own)
  return default('own:Own')


@pytest.fixture
def config():
  config = default()
  config.model.stack = STACK
  return config


def value_at(config, key):
  return dict(leaves(config))[key]


def test_every_default_is_right_and_every_key_says_what_it_is_for(config):
  check(config)
  for key, row in KEYS.items():
    assert row.meaning.endswith('.'), key
    assert row.kind.check(row.default) == '', key


@pytest.mark.parametrize(
  ('key', 'word', 'value'),
  [
    ('ema_decay', 'None', None),
    ('ema_decay', 'none', None),
    ('ema_decay', '0.99', 0.99),
    ('ema_decay', '0', 0.0),
    ('data.data_dir', 'None', None),
    ('data.data_dir', 'none', 'none'),  # a folder may be called that
    ('data.data_dir', "'None'", 'None'),
    ('data.data_dir', '/a, b=c/"d"', '/a, b=c/"d"'),
    ('data.resolution', 'None', None),
    ('data.train_split', 'train[:90%]+test', 'train[:90%]+test'),
    ('eval_every_epochs', '0.5', 0.5),
    ('eval_every_epochs', '2', 2.0),
    ('total_epochs', '1e1', 10.0),
    ('total_epochs', '.5', 0.5),
    ('batch_size', '1_024', 1024),
    ('seed', str(2**63 - 1), 2**63 - 1),
    ('augment.flip', 'true', True),
    ('augment.flip', 'T', True),
    ('augment.flip', '0', False),
    ('augment.flip', 'False', False),
    ('augment.scale', '(0.9, 1.1)', (0.9, 1.1)),
    ('augment.scale', '[1,2]', (1.0, 2.0)),
    ('augment.scale', '0.9,1.1', (0.9, 1.1)),
    ('model.stack', "({'kind': 'head'},)", ({'kind': 'head'},)),
    ('model.stack', '[{"kind": "pool", "window": [2, 2]}]', ({'kind': 'pool', 'window': (2, 2)},)),
    ('model.stack[0].features', '8', ({**STACK[0], 'features': 8}, STACK[1])),
    ('model.stack[-2].padding', 'VALID', ({**STACK[0], 'padding': 'VALID'}, STACK[1])),
    ('model.stack[1]', "{'kind': 'abs'}", (STACK[0], {'kind': 'abs'})),
    ('model.scale_init', 'None', None),
    ('model.scale_init', '3', 3.0),
    ('model.dtype', 'bfloat16', 'bfloat16'),
  ],
)
def test_a_word_becomes_a_value(config, key, word, value):
  assign(config, key, read(config, key, word))
  found = value_at(config, key.partition('[')[0])
  assert found == value
  assert type(found) is type(value)
  assert from_dict(json.loads(to_json(config)), 'here') == config


def test_a_group_is_set_by_a_dict_of_what_changes(config):
  word = "{'name': 'sgd', 'schedule': {'name': 'cosine'}, 'clip_norm': 1}"
  assign(config, 'optimizer', read(config, 'optimizer', word))
  assert config.optimizer.name == 'sgd'
  assert config.optimizer.schedule.name == 'cosine'
  assert config.optimizer.schedule.peak_learning_rate == 0.03
  assert config.optimizer.clip_norm == 1.0


@pytest.mark.parametrize(
  ('key', 'word', 'said'),
  [
    ('batch_size', 'many', "batch_size must be a whole number, got 'many'"),
    ('batch_size', '64.0', 'a whole number'),
    ('batch_size', 'None', 'a whole number'),
    ('batch_size', '', 'a whole number'),
    ('total_epochs', '1/3', 'total_epochs must be a number'),
    ('total_epochs', 'None', 'a number'),
    ('ema_decay', '0.5x', 'a number'),
    ('augment.flip', 'yes', 'augment.flip must be true or false'),
    ('augment.scale', '(0.9, 1.1', 'two numbers'),
    ('augment.scale', '0.9,x', 'two numbers'),
    ('model.stack', '5', 'each a dict'),
    ('model.stack', '(' * 500, 'each a dict'),
    ('model.stack[7].features', '5', '7 is not in'),
    ('model.stack[x]', '5', "no key 'model.stack"),
    ('optimizer', 'sgd', "optimizer is a group of keys, and 'sgd' is not a dict"),
    ('optimizer', "{'nam': 'sgd'}", "no key 'optimizer.nam'; the nearest is 'optimizer.name'"),
    ('batch_siz', '3', "no key 'batch_siz'; the nearest is 'batch_size'"),
    ('schedule.name', '3', "the nearest is 'optimizer.schedule.name'"),
    ('peak_learning_rate', '3', "the nearest is 'optimizer.schedule.peak_learning_rate'"),
    ('optimizer.xyz', '3', "no key 'optimizer.xyz'; optimizer has name, schedule, momentum"),
  ],
)
def test_a_word_that_means_nothing_is_refused(config, key, word, said):
  before = to_json(config)
  with pytest.raises(ArgumentError, match=said):
    assign(config, key, read(config, key, word))
  assert to_json(config) == before


@pytest.mark.parametrize(
  ('key', 'right', 'wrong', 'words'),
  [
    ('seed', (0, 2**63 - 1), (-1, 2**63), 'at least 0 and below 2'),
    ('data.resolution', (1, None), (0,), 'at least 1 or None'),
    ('data.name', ('a',), ('', ' '), 'not empty'),
    ('augment.rotate', (0.0, 180.0), (-0.1, 180.1), 'in [0, 180]'),
    ('augment.shear', (89.9,), (90.0, -1.0), 'in [0, 90)'),
    ('augment.scale', ((1.0, 1.0),), ((0.0, 1.0), (2.0, 1.0), (1.0,), (1.0, math.inf)), 'two numb'),
    ('batch_size', (1, 2**20), (0, 2**20 + 1), 'in [1, 1048576]'),
    ('total_epochs', (1e-9,), (0.0, -1.0), 'greater than 0'),
    ('total_epochs', (), (math.inf, math.nan, -math.inf), 'a finite number, greater than 0'),
    ('label_smoothing', (0.0, 0.999), (1.0, -0.1), 'in [0, 1)'),
    ('ema_decay', (None, 0.0), (1.0, math.nan), '[0, 1) or None|a finite number'),
    ('objective', ('reconstruction',), ('clasification',), "(did you mean 'classification'?)"),
    ('optimizer.name', ('sgd',), ('adma',), "'schedule_free_sgd' (did you mean 'adamw'?)"),
    ('optimizer.schedule.peak_learning_rate', (1e-9,), (0.0, -0.1), 'greater than 0'),
    ('optimizer.schedule.warmup_fraction', (0.0, None), (1.0, -0.1), 'in [0, 1) or None'),
    ('optimizer.momentum', (0.0,), (1.0, -0.1), 'in [0, 1)'),
    ('optimizer.cycle_momentum_to', (None, 0.5), (1.0,), 'in [0, 1)'),
    ('optimizer.weight_decay', (0.0,), (-0.1,), 'at least 0'),
    ('optimizer.p_multiplier', (0.0,), (-0.1,), 'at least 0'),
    ('optimizer.clip_norm', (None, 1e-9), (0.0, -1.0), 'greater than 0 or None'),
    ('mesh.fsdp', (-1, 8), (-2,), 'at least -1'),
    ('eval_every_epochs', (1e-6,), (0.0,), 'at least 1e-06'),
    ('keep_latest', (1,), (0,), 'at least 1'),
    ('keep_best', (0,), (-1,), 'at least 0'),
    ('rollbacks', (0,), (-1,), 'at least 0'),
    ('on_save_error', ('continue',), ('stopp',), "(did you mean 'stop'?)"),
    ('stall_seconds', (1e9,), (0.0, 1e10), 'in (0, 1000000000]'),
    ('model.dtype', ('bfloat16',), ('int32',), "'float32' or 'bfloat16'"),
    ('model.dtype', (), ('float64',), 'JAX_ENABLE_X64=1'),
    ('model.p_init', (0.5,), (math.inf, math.nan), 'a finite number'),
  ],
)
def test_ranges(config, key, right, wrong, words):
  for value in right:
    assign(config, key, value)
    check(config)
  for value in wrong:
    assign(config, key, value)
    with pytest.raises(ArgumentError) as info:
      check(config)
    assert str(info.value).startswith(f'{key} must be ')
    assert any(part in str(info.value) for part in words.split('|'))
    assert str(info.value).endswith(f'got {value!r}')


def test_float64_runs_where_jax_has_it(config):
  config.model.dtype = 'float64'
  with jax.enable_x64(True):
    check(config)


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda config: None, 'a config is what train.config.default.. returns, got None'),
    (lambda config: 3, 'got 3'),
    (lambda config: config.to_dict(), 'returns, got'),
    (lambda config: ConfigDict(), 'has no model.name'),
    (lambda config: ConfigDict({'model': {'name': 3}}), 'has no model.name'),
    (lambda config: ConfigDict({'model': {'name': 'scs_nt'}}), "did you mean 'scs_net'"),
    (
      lambda config: ConfigDict({k: v for k, v in config.items() if k != 'seed'}),
      'lacks seed: begin with',
    ),
    (lambda config: ConfigDict({**config, 'sed': 3}), "the nearest is 'seed'"),
    (
      lambda config: config.model.update(name='resnet') or config,
      r"model.stack is no argument of the model 'resnet', which has .*widths.*default\('resnet'\)",
    ),
    (
      lambda config: config.update(label_smoothing=0.1, objective='reconstruction') or config,
      'label_smoothing=0.1 needs labels',
    ),
  ],
)
def test_what_is_no_config_is_refused(config, make, said):
  with pytest.raises(ArgumentError, match=said):
    check(make(config))


def test_arguments_of_ones_own_model_have_types(own):
  assert 'activation' not in own.model  # a function stays with the class
  assert 'more' not in own.model
  assert own.model.dtype == 'bfloat16'
  words = {
    'required': ('3', 3),
    'width': ('0.5', 0.5),  # its default is a whole number, but nobody says that it must be one
    'annotated': ('2', 2.0),
    'maybe': ('None', None),
    'mixed': ('3', 3),
    'mode': ('exact', 'exact'),
    'sizes': ('4', (4,)),
    'options_of_mine': ("{'a': [1, 2]}", {'a': (1, 2)}),
    'anything': ('some, text', 'some, text'),
  }
  for name, (word, value) in words.items():
    assign(own, f'model.{name}', read(own, f'model.{name}', word))
    assert own.model[name] == value
    assert type(own.model[name]) is type(value)
  check(own)
  assert from_dict(json.loads(to_json(own)), 'here') == own


@pytest.mark.parametrize(
  ('key', 'value', 'said'),
  [
    ('width', 'wide', 'model.width must be a whole number or a number'),
    ('annotated', 'x', 'model.annotated must be a number'),
    ('maybe', 0.5, 'model.maybe must be a whole number'),
    ('sizes', (1, 'x'), 'a tuple whose values are each a whole number'),
    ('options_of_mine', 3, 'a dict such as'),
  ],
)
def test_arguments_of_ones_own_model_are_checked(own, key, value, said):
  with pytest.raises(ArgumentError, match=said):
    assign(own, f'model.{key}', value)


def test_an_argument_without_a_default_must_be_set(own):
  with pytest.raises(ArgumentError, match=r'model\.required must be set'):
    check(own)
  own.model.required, own.model.mode = 1, 'fats'
  with pytest.raises(ArgumentError, match=r"'fast' or 'exact' \(did you mean 'fast'\?\)"):
    check(own)


def test_sizes_of_the_packages_models_are_at_least_one():
  for model in models.MODELS:
    for key, row in keys_of(model).items():
      if key.startswith('model.') and row.kind.type is int:
        assert row.kind.check(0) == 'at least 1', key
