"""What every variant starts from: --data is the argument, mnist, fashion_mnist or cifar10."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

AUGMENTATIONS = {
  'mnist': {'rotate': 10.0, 'translate': 0.07, 'scale': (0.9, 1.1), 'shear': 5.0},
  'fashion_mnist': {'shift': 2, 'flip': True},
  'cifar10': {'shift': 4, 'flip': True},
}
EPOCHS = {'mnist': 3, 'fashion_mnist': 3, 'cifar10': 4}


def get_config(data: str = 'fashion_mnist') -> ConfigDict:
  """Returns the whole config."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = data
  config.data.data_dir = placeholder(str)  # TFDS_DATA_DIR, or ~/tensorflow_datasets
  config.data.train_split = 'train'
  config.data.eval_split = 'test'
  config.data.resolution = placeholder(int)  # None: all in memory, as they are
  config.data.workers = 0
  off = {
    'shift': 0, 'flip': False, 'rotate': 0.0, 'translate': 0.0, 'scale': (1.0, 1.0), 'shear': 0.0,
    'cutout': 0,
  }  # fmt: skip
  config.augment = ConfigDict({**off, **AUGMENTATIONS[data]})

  config.model = ConfigDict()
  config.model.name = 'claim_net'

  config.batch_size = 128
  config.eval_batch_size = 500
  config.total_epochs = float(EPOCHS[data])
  config.objective = 'classification'
  config.label_smoothing = 0.0
  config.ema_decay = placeholder(float)  # the runs are too short
  config.optimizer = ConfigDict()
  config.optimizer.name = 'adamw'
  config.optimizer.schedule = ConfigDict()
  config.optimizer.schedule.name = 'one_cycle'
  config.optimizer.schedule.peak_learning_rate = 0.03
  config.optimizer.momentum = 0.95
  config.optimizer.cycle_momentum_to = 0.85
  config.optimizer.weight_decay = 0.0
  config.optimizer.p_weight_decay = 0.0
  config.optimizer.q_weight_decay = 0.0
  config.optimizer.p_multiplier = 1.0
  config.optimizer.q_multiplier = 1.0
  config.optimizer.clip_norm = placeholder(float)

  config.mesh = ConfigDict({'data': -1, 'fsdp': 1})
  config.log_every_steps = 100
  config.eval_every_epochs = EPOCHS[data]
  config.save_every_epochs = EPOCHS[data]
  config.keep_latest = 1
  config.keep_best = 0
  config.rollbacks = 0
  config.on_save_error = 'stop'
  config.stall_seconds = 600.0
  return config
