"""The variants: each changes one thing in a base, and is paired with it seed by seed."""

import pathlib

from experiments.results import Trial

_SCS = {}
_TWIN = {'layer': 'conv', 'activation': 'relu', 'norm': True, 'pool': 'max'}
_BARE = {**_TWIN, 'norm': False}  # convolution with bias and ReLU

BASES = {'SCS': _SCS, 'conv + BatchNorm + ReLU': _TWIN, 'conv + ReLU': _BARE}
# Learning rates were tuned on the last tenth of the training set, seed 0, one run per rate. MNIST
# uses those of Fashion-MNIST. Accuracies in % at 0.001, 0.003, 0.01, 0.03, 0.1 and 0.3, for SCS,
# conv + BatchNorm + ReLU and conv + ReLU:
# - Fashion-MNIST: 78.5, 81.9, 83.4, 84.5, 84.7, 84.3; 78.2, 83.4, 84.8, 85.7, 86.4, 85.3;
#   78.0, 81.5, 83.2, 83.7, 78.6, 10.5.
# - CIFAR-10: 41.3, 46.1, 49.1, 50.1, 47.2, 10.6; 43.2, 51.2, 56.5, 60.2, 56.3, 52.8;
#   38.3, 44.2, 49.7, 40.6, 19.5, 10.6.
_ON_FASHION_MNIST = {'SCS': 0.1, 'conv + BatchNorm + ReLU': 0.1, 'conv + ReLU': 0.03}
LEARNING_RATES = {
  'fashion_mnist': _ON_FASHION_MNIST,
  'mnist': _ON_FASHION_MNIST,
  'cifar10': {'SCS': 0.03, 'conv + BatchNorm + ReLU': 0.03, 'conv + ReLU': 0.01},
}

INPUTS = {
  'input × 255': {'input_scale': 255.0},
  'input × 1000': {'input_scale': 1000.0},
  'input × 0.001': {'input_scale': 0.001},
  'input + 1': {'input_shift': 1.0},
}
PARTS = {
  'ReLU after SCS': {'activation': 'relu'},
  '|·| after SCS': {'activation': 'abs'},
  'BatchNorm after SCS': {'norm': True},
  'max pool': {'pool': 'max'},
  'average pool': {'pool': 'average'},
  'stride instead of pool': {'pool': 'stride'},
}
DETAILS = {
  'p shared in a layer': {'p_mode': 'shared'},
  'p = 1, fixed': {'p_mode': 'fixed', 'p_init': 1.0},
  'p = 2, fixed': {'p_mode': 'fixed', 'p_init': 2.0},
  'p = 3, fixed': {'p_mode': 'fixed', 'p_init': 3.0},
  'q beside the patch only': {'kernel_q': 0.0},
  'q under the root': {'layer': 'inside_root'},
  'q from 0.001': {'q_init': 0.001},
  'q from 1': {'q_init': 1.0},
  'q = 0, fixed': {'q_mode': 'fixed', 'q_init': 0.0},
  'no output scale': {'scale_init': None},
  'output scale from 30': {'scale_init': 30.0},
  'weight decay of p': {'optimizer.p_weight_decay': 0.1},
  'weight decay of q': {'optimizer.q_weight_decay': 0.1},
  'depthwise and pointwise': {'connection': 'separable'},
  'two groups': {'connection': 'grouped'},
  'soft cosine': {'layer': 'soft_cosine'},
}
# Data sets, and whether they have the details too.
SETS = {'fashion_mnist': True, 'mnist': True, 'cifar10': False}


def comparisons(data: str) -> dict[str, tuple[str, dict]]:
  """Returns the base of each variant and what the variant changes in it; bases change nothing."""
  rows = {base: (base, {}) for base in BASES}
  for base in BASES:
    rows |= {f'{base}: {name}': (base, change) for name, change in INPUTS.items()}
  rows |= {f'SCS: {name}': ('SCS', change) for name, change in PARTS.items()}
  if SETS[data]:
    rows |= {f'SCS: {name}': ('SCS', change) for name, change in DETAILS.items()}
  return rows


def changes(data: str, base: str, change: dict) -> dict:
  """Returns what the variant changes in the config, by dotted key."""
  flat = {'optimizer.schedule.peak_learning_rate': LEARNING_RATES[data][base]}
  for name, value in {**BASES[base], **change}.items():
    flat[name if '.' in name else f'model.{name}'] = value
  return flat


def config_of(data: str) -> str:
  """Returns the config file of all variants with its argument, as results have it."""
  return f'experiments/claims/config.py:{data}'


def trial_of(data: str, name: str, seed: int) -> Trial:
  """Returns the run of a variant with a seed."""
  return Trial(config_of(data), seed, changes(data, *comparisons(data)[name]))


def folder_of(workdir: str, data: str, name: str, seed: int) -> pathlib.Path:
  """Returns the folder of a run in the `--workdir` of `python -m experiments.claims`."""
  number = list(comparisons(data)).index(name)
  return pathlib.Path(workdir, data, f'{seed}', f'{number:02d}')
