"""ImageNet-1k with an SCS-ResNet-50 without normalisation and without activation, and its twin.

    --config=configs/imagenet.py:NETWORK,variant=VARIANT,batch=N,resolution=N,epochs=N

NETWORK is resnet50 (25,530,525 parameters), resnet18 or convmixer768_32. VARIANT is scs or conv
(convolution + BatchNorm + ReLU). All parts are optional. Worker processes of every host decode,
crop and flip the streamed images.

Expected: unknown. No accuracy and no wall time has been measured; experiments/pod_compile has
          what the compiler reports for the step on a pod.
Command:  python -m scs_jax.main --config=configs/imagenet.py --workdir=gs://BUCKET/imagenet
          (on a pod: ./run_tpu.sh, see the README)
Source:   He et al., 2015; the recipe is the usual one of 90 epochs with batches of 1,024.
"""

from ml_collections import ConfigDict

from scs_jax.errors import ArgumentError
from scs_jax.train.config import default

# The model of each network, and its sizes.
NETWORKS = {
  'resnet50': ('resnet', {'large_stem': True, 'blocks': (3, 4, 6, 3), 'block': 'bottleneck'}),
  'resnet18': ('resnet', {'large_stem': True, 'blocks': (2, 2, 2, 2)}),
  'convmixer768_32': ('convmixer', {'width': 768, 'depth': 32, 'window': 7, 'patch': 7}),
}


def get_config(argument: str = '') -> ConfigDict:
  """Returns the config; the module describes `argument`."""
  network, variant, numbers = _parse(argument)
  model, sizes = NETWORKS[network]
  config = default(model)
  config.data.update(name='imagenet2012', eval_split='validation', workers=32)
  config.data.resolution = numbers['resolution']
  config.model.update(sizes, variant=variant, dtype='bfloat16')
  config.batch_size = config.eval_batch_size = numbers['batch']
  config.total_epochs = float(numbers['epochs'])
  config.label_smoothing = 0.1
  config.ema_decay = 0.9999
  config.optimizer.schedule.update(name='cosine', peak_learning_rate=0.003, warmup_fraction=0.05)
  config.optimizer.update(momentum=0.9, cycle_momentum_to=None, clip_norm=1.0)
  config.optimizer.weight_decay = 0.0 if variant == 'scs' else 0.05
  config.log_every_steps = 50
  config.save_every_epochs = 1.0
  config.on_save_error = 'continue'
  return config


def _parse(argument: str) -> tuple[str, str, dict[str, int]]:
  """Splits 'resnet50,variant=conv,batch=2048' into the network, the variant and the numbers."""
  network, variant = 'resnet50', 'scs'
  numbers = {'batch': 1024, 'resolution': 224, 'epochs': 90}
  for word in filter(None, argument.split(',')):
    name, equals, value = word.partition('=')
    if not equals and word in NETWORKS:
      network = word
    elif name == 'variant' and value in ('scs', 'conv'):
      variant = value
    elif name in numbers and value.isdecimal() and int(value):
      numbers[name] = int(value)
    else:
      raise ArgumentError(
        f'imagenet.py does not know {word!r}; it takes one of {", ".join(NETWORKS)}, variant=scs, '
        'variant=conv, batch=N, resolution=N and epochs=N'
      )
  return network, variant, numbers
