"""The twin without normalisation, convolution + ReLU: experiments/invariance/config.py:DATA.

Expected: experiments/invariance/README.md.
Command:  python -m experiments.invariance --data=DATA --workdir=DIR
"""

from ml_collections import ConfigDict

from experiments.results import ROOT
from scs_jax.train import config_file
from scs_jax.train.config import default


def get_config(data: str = 'quickstart') -> ConfigDict:
  """Returns the config of configs/invariant.py with another model."""
  config = config_file.load(f'{ROOT}/configs/invariant.py:{data},conv')
  stack = config.model.stack
  config.model = default('experiments.invariance.net:ConvReluNet').model
  config.model.stack = stack
  return config
