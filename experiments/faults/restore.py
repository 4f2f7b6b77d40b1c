"""Restores the newest checkpoint of a workdir on the devices there are; prints a digest of its bits.

python experiments/faults/restore.py WORKDIR FSDP
"""

import hashlib
import json
import pathlib
import sys

import jax
import numpy as np


def digest(state) -> str:
  """Returns a digest of every array's path and bits."""
  total = hashlib.sha256()
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  leaves = {name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}
  for path, leaf in sorted(leaves.items()):
    total.update(path.encode() + np.asarray(leaf).tobytes())
  return total.hexdigest()


def main() -> None:
  from flax import nnx

  from scs_jax import models, train
  from scs_jax.train import optim, sharding
  from scs_jax.workdir.checkpoints import Checkpoints

  workdir, fsdp = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
  config = json.loads((workdir / 'config.json').read_text())
  build = lambda: models.build(
    **config['model'], input_shape=(28, 28, 1), num_classes=10, rngs=nnx.Rngs(0)
  )
  optimizer = optim.make(1, **config['optimizer'])
  averaged = config['ema_decay'] is not None
  _, make_state = train.split_model(build, optimizer, averaged=averaged)
  mesh = sharding.make_mesh(data=-fsdp, fsdp=fsdp)
  shapes = jax.eval_shape(make_state)
  wanted = jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
    shapes,
    sharding.state_shardings(mesh, shapes),
  )
  with Checkpoints(workdir / 'checkpoints', read_only=True) as checkpoints:
    restored = checkpoints.restore(wanted)
  print(restored.step, digest(restored.state))


if __name__ == '__main__':
  sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent))
  main()
