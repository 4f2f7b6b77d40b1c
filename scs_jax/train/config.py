"""The config of a run: every key once, with its meaning, and the checks of their ranges.

A file of `configs/` calls `default` and changes what is different. Every value can also be changed
on the command line: `--config.optimizer.schedule.peak_learning_rate=0.01`.
"""

import inspect
import json
import os
from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from scs_jax import models
from scs_jax.errors import ArgumentError, check_known
from scs_jax.train import losses

# Keys, or groups such as `mesh`, that a resumed run may change. Other changes make another run.
MAY_CHANGE = (
  'mesh',
  'log_every_steps',
  'keep_latest',
  'keep_best',
  'rollbacks',
  'on_save_error',
  'stall_seconds',
)
ON_SAVE_ERROR = ('stop', 'continue')

# A ConfigDict. It checks the types of its values when they are set; type checkers cannot.
Config = Any


def default(model: str = 'scs_net') -> Config:
  """Returns a config with every key. Setting an unknown key is an error.

  Args:
    model: name of a network of `scs_jax.models.MODELS`, or 'my_module:MyNet'. The arguments of its
      class become the keys of `config.model`; its docstring describes them.

  Raises:
    ArgumentError: the model is unknown.
  """
  config: Config = ConfigDict()
  # Seed of first weights, order of examples, augmentation and dropout. An integer, at least 0.
  config.seed = 0

  config.data = ConfigDict()
  # 'mnist5k' and 'fake' need no files. 'my_module:load' is a function of the user that takes a
  # split and returns `scs_jax.data.Examples`. Any other name is a TFDS data set, e.g. 'cifar10'.
  config.data.name = 'mnist5k'
  # Folder of prepared TFDS data sets. None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.
  config.data.data_dir = placeholder(str)
  # Splits in TFDS's syntax: 'train', 'train[:90%]', 'train[-5000:]', 'train+test'.
  config.data.train_split = 'train'
  config.data.eval_split = 'test'
  # None: all images are held in memory at their own size. A number: images are streamed from disk
  # and cropped to that height and width in pixels, at random to train, in the centre to evaluate.
  config.data.resolution = placeholder(int)
  # Processes that decode streamed images, per host. 0 decodes in threads of the main process.
  config.data.workers = 0

  # Random changes to training images, made on the device (`scs_jax.data.augment`). 0 and False
  # are off.
  config.augment = ConfigDict()
  config.augment.shift = 0  # largest translation, whole pixels
  config.augment.flip = False  # left and right, with probability 1/2
  config.augment.rotate = 0.0  # largest angle, degrees, 0 to 180
  config.augment.translate = 0.0  # largest translation, fraction of the image, 0 to 1
  config.augment.scale = (1.0, 1.0)  # smallest and largest factor; (1, 1) is off
  config.augment.shear = 0.0  # largest angle, degrees, 0 to 90
  config.augment.cutout = 0  # side of a blackened square, pixels

  config.model = _model_defaults(model)

  config.batch_size = 128  # examples per step, over all devices and hosts
  config.eval_batch_size = 500  # examples per evaluation step; rounded up to a multiple of devices
  config.total_epochs = 30.0  # length of the training; fractions are allowed
  # 'classification' (cross-entropy, accuracy) or 'reconstruction' (squared error, PSNR).
  config.objective = 'classification'
  config.label_smoothing = 0.0  # share of the target spread evenly over all classes, in [0, 1)
  # Decay per step of the exponential average of the parameters, which is then evaluated, in [0, 1).
  # None evaluates the last parameters.
  config.ema_decay = placeholder(float)

  config.optimizer = ConfigDict()
  config.optimizer.name = 'adamw'  # or 'sgd' with Nesterov momentum
  config.optimizer.schedule = ConfigDict()
  config.optimizer.schedule.name = 'one_cycle'  # or 'cosine', or 'constant'
  config.optimizer.schedule.peak_learning_rate = 0.03
  # Share of the steps that the learning rate rises, in [0, 1). None means 0.3 for 'one_cycle' and
  # 0.05 for 'cosine'; 'constant' has none.
  config.optimizer.schedule.warmup_fraction = placeholder(float)
  config.optimizer.momentum = 0.95  # of SGD, or b1 of Adam, in [0, 1)
  # Momentum at the peak of 'one_cycle', in [0, 1). None keeps the momentum constant.
  config.optimizer.cycle_momentum_to = placeholder(float)
  config.optimizer.cycle_momentum_to = 0.85
  # Decoupled weight decay of kernels, at least 0. Biases and normalisation have none.
  config.optimizer.weight_decay = 0.0
  # Weight decay of p and q in their unconstrained form. It pulls p towards log 2 and costs
  # accuracy (experiments/claims).
  config.optimizer.p_weight_decay = 0.0
  config.optimizer.q_weight_decay = 0.0
  config.optimizer.p_multiplier = 1.0  # factor on the learning rate of p, at least 0
  config.optimizer.q_multiplier = 1.0  # factor on the learning rate of q, at least 0
  config.optimizer.clip_norm = placeholder(float)  # largest gradient norm; None does not clip

  # Devices along each axis; -1 means all remaining ones. 'data' splits the batch, 'fsdp' also
  # splits parameters and optimizer state.
  config.mesh = ConfigDict({'data': -1, 'fsdp': 1})
  config.log_every_steps = 100  # steps between rows of training metrics
  config.eval_every_epochs = 1.0  # epochs between evaluations
  config.save_every_epochs = 5.0  # epochs between checkpoints
  config.keep_latest = 2  # newest checkpoints kept, at least 1
  config.keep_best = 1  # best checkpoints kept in addition
  config.rollbacks = 0  # times that a loss which is not finite may roll back the run
  config.on_save_error = 'stop'  # or 'continue', which trains on without that checkpoint
  config.stall_seconds = (
    600.0  # after so long without progress, processes report what they wait for
  )
  return config.lock()  # a misspelt key is an error, in a file as on the command line


def get_config(path: str) -> Config:
  """Returns the config that a workdir keeps as `config.json`: `--config=WORKDIR/config.json`.

  Raises:
    ArgumentError: there is no such file, or it is not the config of a run.
  """
  try:
    values = json.loads(epath.Path(os.path.expanduser(path)).read_text())
  except (OSError, json.JSONDecodeError) as error:
    raise ArgumentError(f'--config={path} cannot be read: {error}') from error
  return from_dict(values, path)


def from_dict(values: Mapping[str, Any], source: str) -> Config:
  """Returns the config that `values` describe, with the defaults of keys they do not have.

  Args:
    values: as JSON gives them back.
    source: where they are from, for error messages.

  Raises:
    ArgumentError: there is a key or a value that no config has.
  """
  wrong = f'{source} is not the config of a run of this version of scs_jax'
  try:
    name = values['model']['name']
  except (KeyError, TypeError) as error:
    raise ArgumentError(f'{wrong}: it has no model.name') from error
  config = default(name)
  try:
    _check_keys(values, config)
    config.update(models.with_tuples(values))
  except (ArgumentError, KeyError, TypeError) as error:
    raise ArgumentError(f'{wrong}: {error}') from error
  return config


def _check_keys(values: Mapping[str, Any], config: Config, prefix: str = '') -> None:
  for key, value in values.items():
    check_known('key', f'{prefix}{key}', [f'{prefix}{known}' for known in config])
    if isinstance(value, Mapping) and isinstance(config[key], ConfigDict):
      _check_keys(value, config[key], f'{prefix}{key}.')


def to_json(config: Config) -> str:
  """Returns the JSON that a workdir keeps."""
  return config.to_json_best_effort(indent=2)


def check(config: Config) -> None:
  """Checks the values that no other component validates.

  Raises:
    ArgumentError: naming the key, its value and its range.
  """
  check_known('objective', config.objective, losses.OBJECTIVES)
  for name in ('log_every_steps', 'eval_batch_size', 'batch_size', 'keep_latest'):
    if config[name] < 1:
      raise ArgumentError(f'{name} must be at least 1, got {config[name]}')
  check_known('on_save_error', config.on_save_error, ON_SAVE_ERROR)
  for name in ('rollbacks', 'keep_best'):
    if config[name] < 0:
      raise ArgumentError(f'{name} must be at least 0, got {config[name]}')
  for name in ('stall_seconds', 'total_epochs', 'eval_every_epochs', 'save_every_epochs'):
    if not config[name] > 0:
      raise ArgumentError(f'{name} must be greater than 0, got {config[name]}')
  for name, off in (('label_smoothing', 0.0), ('ema_decay', None)):
    if config[name] != off and not 0 <= config[name] < 1:
      raise ArgumentError(f'{name} must be in [0, 1), or {off} for none; got {config[name]}')


def _model_defaults(name: str) -> ConfigDict:
  """Returns `config.model`: the arguments of a model, each of a type that flags can parse."""
  config = ConfigDict({'name': name})
  for key, value in models.arguments_of(name).items():
    if key == 'dtype' and value is None:
      value = 'float32'  # of the images
    elif value is None or value is inspect.Parameter.empty:
      value = placeholder(_TYPES.get(key, object))
    config[key] = value
  return config


_TYPES = {'stack': tuple, 'kernel_q': float, 'scale_init': float}
