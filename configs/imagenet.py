"""ImageNet-1k with SCS-ResNet-50, without normalisation and without activation, and its twin.

    --config=configs/imagenet.py:NETWORK,variant=VARIANT,batch=N,resolution=N,epochs=N

NETWORK is resnet50 (25,530,525 parameters), resnet18 or convmixer768_32; VARIANT is scs or conv
(convolution + BatchNorm + ReLU); all may be left out. The images are streamed: decoded, cropped and
flipped on the hosts by worker processes.

Nothing here has been trained: no accuracy is known. What a pod's compiler says of the step is in
experiments/pod_compile/.

Command: python -m scs_jax.main --config=configs/imagenet.py --workdir=gs://BUCKET/imagenet
         (on a pod: ./run_tpu.sh, see README)
Source:  He et al., 2015; the recipe is the usual one of 90 epochs with a batch of 1,024 rows.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

RESNET = {
  'name': 'resnet', 'widths': (64, 128, 256, 512), 'large_stem': True, 'downsample': 'stride',
  'head': 'mean',
}  # fmt: skip
NETWORKS = {
  'resnet50': {**RESNET, 'blocks': (3, 4, 6, 3), 'block': 'bottleneck'},
  'resnet18': {**RESNET, 'blocks': (2, 2, 2, 2), 'block': 'basic'},
  'convmixer768_32': {'name': 'convmixer', 'width': 768, 'depth': 32, 'window': 7, 'patch': 7},
}


def get_config(argument: str = '') -> ConfigDict:
  """Returns the whole config."""
  chosen = _parse(argument)
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = 'imagenet2012'
  config.data.data_dir = placeholder(str)  # TFDS_DATA_DIR, or ~/tensorflow_datasets
  config.data.train_split = 'train'
  config.data.eval_split = 'validation'
  config.data.resolution = chosen['resolution']
  config.data.workers = 32
  config.augment = ConfigDict()  # crop and flip are made on the hosts
  config.augment.shift = 0
  config.augment.flip = False
  config.augment.rotate = 0.0
  config.augment.translate = 0.0
  config.augment.scale = (1.0, 1.0)
  config.augment.shear = 0.0
  config.augment.cutout = 0

  config.model = ConfigDict(NETWORKS[chosen['network']])
  config.model.variant = chosen['variant']
  config.model.output = 'unit'
  config.model.p_init = 1.25
  config.model.q_init = 1e-3
  config.model.dtype = 'bfloat16'

  config.batch_size = chosen['batch']
  config.eval_batch_size = chosen['batch']
  config.total_epochs = float(chosen['epochs'])
  config.objective = 'classification'
  config.label_smoothing = 0.1
  config.ema_decay = 0.9999
  config.optimizer = ConfigDict()
  config.optimizer.name = 'adamw'
  config.optimizer.schedule = ConfigDict()
  config.optimizer.schedule.name = 'cosine'
  config.optimizer.schedule.peak_learning_rate = 0.003
  config.optimizer.schedule.warmup_fraction = 0.05
  config.optimizer.momentum = 0.9
  config.optimizer.cycle_momentum_to = placeholder(float)
  config.optimizer.weight_decay = 0.0 if chosen['variant'] == 'scs' else 0.05
  config.optimizer.p_weight_decay = 0.0
  config.optimizer.q_weight_decay = 0.0
  config.optimizer.p_multiplier = 1.0
  config.optimizer.q_multiplier = 1.0
  config.optimizer.clip_norm = 1.0

  config.mesh = ConfigDict({'data': -1, 'fsdp': 1})
  config.log_every_steps = 50
  config.eval_every_epochs = 1
  config.save_every_epochs = 1
  config.keep_latest = 2
  config.keep_best = 1
  config.rollbacks = 0
  config.on_save_error = 'continue'
  config.stall_seconds = 600.0
  return config


def _parse(argument):
  """Reads 'resnet50,variant=conv,batch=2048': a network's name, and settings."""
  chosen = {
    'network': 'resnet50', 'variant': 'scs', 'batch': 1024, 'resolution': 224, 'epochs': 90
  }  # fmt: skip
  for word in filter(None, argument.split(',')):
    name, equals, value = word.partition('=')
    if not equals and word in NETWORKS:
      chosen['network'] = word
    elif name == 'variant' and value in ('scs', 'conv'):
      chosen['variant'] = value
    elif name in ('batch', 'resolution', 'epochs') and value.isdecimal() and int(value):
      chosen[name] = int(value)
    else:
      raise ValueError(
        f'imagenet.py does not know {word!r}; it takes one of {", ".join(NETWORKS)}, variant=scs, '
        'variant=conv, batch=N, resolution=N and epochs=N'
      )
  return chosen
