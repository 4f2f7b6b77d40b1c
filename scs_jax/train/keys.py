"""The keys of a config: one table with default, type, range and meaning of each."""

import dataclasses
import inspect
import math
from typing import Any

import jax.numpy as jnp

from scs_jax import models
from scs_jax.train import losses, optim
from scs_jax.train.values import (
  Kind,
  boolean,
  choice,
  dtype,
  items,
  maybe,
  number,
  of_annotation,
  pair,
  text,
  tuples,
  whole,
)


@dataclasses.dataclass(frozen=True)
class Key:
  """A key of the config.

  Attributes:
    default: its value unless a config file or the command line sets another.
    kind: its type and its range.
    meaning: what it is for.
    may_change: whether a resumed run may change it. Any other change makes another run.
  """

  default: Any
  kind: Kind
  meaning: str
  may_change: bool = False


FREE = {'may_change': True}

# The keys of `config.model` are the arguments of the model's class; its docstring describes them.
KEYS: dict[str, Key] = {
  'seed': Key(
    0,
    whole(least=0, below=2**63, words='at least 0 and below 2**63'),
    'Seed of first weights, order of examples, augmentation and dropout.',
  ),
  # ------------------------------------------------------------------------------------- Data
  'data.name': Key(
    'mnist5k',
    text(),
    "'mnist5k' and 'fake' need no files. 'folder:PATH' are the user's own pictures in "
    'PATH/train/CLASS/ and PATH/test/CLASS/ (scs_jax.data.folder), '
    "'npz:FILE' own arrays (scs_jax.data.npz). 'my_module:load' is a function of the user that "
    'takes a split and returns scs_jax.data.Examples. Any other name is a TFDS data set, e.g. '
    "'cifar10'.",
  ),
  'data.data_dir': Key(
    None,
    maybe(text()),
    'Folder of prepared TFDS data sets. None means $TFDS_DATA_DIR, else ~/tensorflow_datasets.',
    **FREE,
  ),
  'data.train_split': Key(
    'train',
    text(),
    "Split in TFDS's syntax: 'train', 'train[:90%]', 'train[-5000:]', 'train+test'.",
  ),
  'data.eval_split': Key('test', text(), 'Split to evaluate on, likewise.', **FREE),
  'data.resolution': Key(
    None,
    maybe(whole(least=1)),
    'Height and width of the images, pixels. None: all images are held in memory at their own '
    'size. A number: images of TFDS are streamed from disk and cropped to it, at random to train, '
    'in the centre to evaluate. Pictures of a folder are scaled to it, and streamed if they take '
    'more than 1 GiB.',
  ),
  'data.channels': Key(
    None,
    maybe(whole(least=1, most=4)),
    'Channels of the pictures of a folder: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. None '
    'means 3. Other data sets have their own.',
  ),
  'data.class_names': Key(
    None,
    maybe(items(text())),
    'Names of the classes, in the order of their labels. None means those of the data set, which '
    'the run writes here.',
    **FREE,
  ),
  'data.skip_bad_records': Key(
    0,
    whole(least=0),
    'Records of a split that may be left out because they cannot be decoded. A streamed split may '
    'leave out so many on each host.',
    **FREE,
  ),
  'data.workers': Key(
    0,
    whole(least=0),
    'Processes that decode streamed images, per host. 0 decodes in threads of the main process.',
    **FREE,
  ),
  # ------------------------------------------------------------------------------ Augmentation
  'augment.shift': Key(0, whole(least=0), 'Largest translation, whole pixels; 0 is off.'),
  'augment.flip': Key(False, boolean(), 'Mirror left and right with probability 1/2.'),
  'augment.rotate': Key(0.0, number(least=0, most=180), 'Largest angle, degrees.'),
  'augment.translate': Key(
    0.0, number(least=0, most=1), 'Largest translation, a fraction of the image.'
  ),
  'augment.scale': Key((1.0, 1.0), pair(above=0), 'Smallest and largest factor; (1, 1) is off.'),
  'augment.shear': Key(0.0, number(least=0, below=90), 'Largest angle, degrees.'),
  'augment.cutout': Key(0, whole(least=0), 'Side of a blackened square, pixels; 0 is off.'),
  'augment.mixup': Key(
    0.0,
    number(least=0),
    'Blends each training image and its label with those of another; alpha of the Beta '
    'distribution of their shares. 0 is off.',
  ),
  # ---------------------------------------------------------------------------------- Training
  'batch_size': Key(
    128, whole(least=1, most=2**20), 'Examples per step, over all devices and hosts.'
  ),
  'accumulate_steps': Key(
    1,
    whole(least=1),
    'Parts of a batch whose gradients are computed one after the other, to need less memory. A '
    'step, its learning rate and its average remain those of the whole batch; BatchNorm sees each '
    'part alone.',
  ),
  'eval_batch_size': Key(
    500,
    whole(least=1),
    'Examples per evaluation step, at most all; rounded up to a multiple of the devices.',
    **FREE,
  ),
  'total_epochs': Key(30.0, number(above=0), 'Length of the training; fractions are allowed.'),
  'objective': Key(
    'classification',
    choice(losses.OBJECTIVES),
    "'classification' (cross-entropy, accuracy) or 'reconstruction' (squared error, PSNR).",
  ),
  'label_smoothing': Key(
    0.0, number(least=0, below=1), 'Share of the target spread evenly over all classes.'
  ),
  'ema_decay': Key(
    None,
    maybe(number(least=0, below=1)),
    'Decay per step of the exponential average of the parameters, which is then evaluated. None '
    'evaluates the last parameters.',
  ),
  'init_from': Key(
    None,
    maybe(text()),
    'A workdir, a network of the package or a .safetensors file. Its arrays are the first weights, '
    'as far as their names and shapes fit.',
  ),
  'freeze': Key(
    (),
    items(text()),
    "Names of arrays that training leaves as they are, such as 'scs_0' or '*.raw_p'; * stands for "
    'any characters. Running statistics of BatchNorm are arrays too.',
  ),
  'optimizer.name': Key(
    'adamw',
    choice(optim.OPTIMIZERS),
    "'adamw'; 'sgd' with Nesterov momentum; 'muon', for kernels, with Adam for the rest; "
    "'schedule_free_adamw' or 'schedule_free_sgd', which evaluate an average of their own.",
  ),
  'optimizer.schedule.name': Key(
    'one_cycle', choice(optim.SCHEDULES), 'How the learning rate goes up and down.'
  ),
  'optimizer.schedule.peak_learning_rate': Key(0.03, number(above=0), 'The largest rate.'),
  'optimizer.schedule.warmup_fraction': Key(
    None,
    maybe(number(least=0, below=1)),
    "Share of the steps that the learning rate rises. None means 0.3 for 'one_cycle', 0.05 for "
    "'cosine' and 0 for 'constant'.",
  ),
  'optimizer.momentum': Key(0.95, number(least=0, below=1), 'Of SGD or Muon, or b1 of Adam.'),
  'optimizer.cycle_momentum_to': Key(
    0.85,
    maybe(number(least=0, below=1)),
    "Momentum at the peak of 'one_cycle'. None keeps the momentum constant.",
  ),
  'optimizer.weight_decay': Key(
    0.0, number(least=0), 'Decoupled weight decay of kernels. Biases and normalisation have none.'
  ),
  'optimizer.p_weight_decay': Key(
    0.0,
    number(least=0),
    'Of p in its unconstrained form. It pulls p towards log 2 and costs accuracy '
    '(experiments/claims).',
  ),
  'optimizer.q_weight_decay': Key(0.0, number(least=0), 'Of q, likewise.'),
  'optimizer.p_multiplier': Key(1.0, number(least=0), 'Factor on the learning rate of p.'),
  'optimizer.q_multiplier': Key(1.0, number(least=0), 'Factor on the learning rate of q.'),
  'optimizer.clip_norm': Key(
    None, maybe(number(above=0)), 'Largest norm of the gradient; None does not clip.'
  ),
  # ------------------------------------------------------------------------- Devices and disk
  'mesh.data': Key(
    -1, whole(least=-1), 'Devices that split the batch; -1 means all remaining ones.', **FREE
  ),
  'mesh.fsdp': Key(
    1, whole(least=-1), 'Devices that also split parameters and optimizer state.', **FREE
  ),
  'profile_steps': Key(
    0,
    whole(least=0),
    'Training steps after the compilation whose profile is written to profile/ in the workdir; 0 '
    'is off.',
    **FREE,
  ),
  'log_every_steps': Key(100, whole(least=1), 'Steps between rows of training metrics.', **FREE),
  'eval_every_epochs': Key(1.0, number(least=1e-6), 'Epochs between evaluations.', **FREE),
  'save_every_epochs': Key(5.0, number(least=1e-6), 'Epochs between checkpoints.', **FREE),
  'keep_latest': Key(2, whole(least=1), 'Newest checkpoints kept.', **FREE),
  'keep_best': Key(1, whole(least=0), 'Best checkpoints kept in addition.', **FREE),
  'rollbacks': Key(
    0, whole(least=0), 'Times that a loss which is not finite may roll back the run.', **FREE
  ),
  'on_save_error': Key(
    'stop',
    choice(('stop', 'continue')),
    "What to do if a checkpoint cannot be written; 'continue' trains on without it.",
    **FREE,
  ),
  'stall_seconds': Key(
    600.0,
    number(above=0, most=10**9),
    'After so long without progress, processes report what they wait for.',
    **FREE,
  ),
}
MAY_CHANGE = tuple(key for key, row in KEYS.items() if row.may_change)


def keys_of(model: str) -> dict[str, Key]:
  """Returns `KEYS` and those of `config.model`.

  Raises:
    ArgumentError: the model is unknown.
  """
  keys = {'model.name': Key(model, text(), "A network of scs_jax.models, or 'my_module:MyNet'.")}
  for name, parameter in models.parameters_of(model).items():
    if (kind := _kind_of(model, name, parameter)) is not None:
      given = None if parameter.default is inspect.Parameter.empty else tuples(parameter.default)
      if kind.type is str and name in _DTYPES:
        given = 'float32' if given is None else jnp.dtype(given).name  # None means that of images
      keys[f'model.{name}'] = Key(given, kind, f'Argument of the model {model!r}.')
  return KEYS | keys


_DTYPES = ('dtype', 'param_dtype')
_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)


def _kind_of(model: str, name: str, parameter: inspect.Parameter) -> Kind | None:
  """Returns the kind of a model's argument; None if no config can say it, such as a function."""
  if name in _DTYPES:
    return dtype()
  empty = parameter.default is inspect.Parameter.empty
  if not empty and not isinstance(parameter.default, _PLAIN):
    return None
  least = -math.inf if ':' in model else 1  # ours have no whole numbers but sizes and counts
  kind = of_annotation(parameter.annotation, None if empty else parameter.default, least)
  return dataclasses.replace(kind, optional=kind.optional and not empty)
