"""Restores the newest checkpoint of a workdir on the devices of this process.

python -m experiments.faults.restore WORKDIR

It prints the step and a digest of the bits of every array of the state.
"""

import hashlib
import sys
from typing import Any

import jax
import numpy as np
from etils import epath

from scs_jax.train.restore import experiment_of
from scs_jax.workdir import Checkpoints


def main(workdir: str) -> None:
  experiment = experiment_of(workdir)
  wanted = experiment.abstract_state(experiment.mesh()).to_dict()
  with Checkpoints(epath.Path(workdir) / 'checkpoints', read_only=True) as checkpoints:
    restored = checkpoints.restore(wanted)
  if restored is None:
    sys.exit(f'error: {workdir} holds no checkpoint')
  print(restored.step, digest(restored.state))


def digest(state: Any) -> str:
  """Returns a digest of every array's path and bits."""
  total = hashlib.sha256()
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  leaves = {name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}
  for path, leaf in sorted(leaves.items()):
    total.update(path.encode() + np.asarray(leaf).tobytes())
  return total.hexdigest()


if __name__ == '__main__':
  main(sys.argv[1])
