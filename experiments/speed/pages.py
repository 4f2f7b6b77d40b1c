"""A training step of a config on one CPU core: python experiments/speed/pages.py CONFIG prints milliseconds.

`run.py --table=pages` starts it with and without huge pages: they are asked for in the environment of a
process, before it begins.
"""

import os
import statistics
import sys
import time

import jax
from networks import ROOT, timed_step

sys.path[:0] = [str(ROOT), str(ROOT / 'experiments')]

from trials import Trial  # noqa: E402

from scs_jax.data import augment  # noqa: E402

IMAGES = {'cifar10': (32, 32, 3), 'mnist': (28, 28, 1), 'fashion_mnist': (28, 28, 1)}
STEPS = 60


def milliseconds(config) -> float:
  """Returns the median time of a step."""
  model = config.model.to_dict()
  step = timed_step(
    IMAGES[config.data.name],
    model,
    model.pop('variant'),
    dtype=model.pop('dtype'),
    batch=config.batch_size,
    augmentation=augment.make(**config.augment),
    optimizer=config.optimizer.to_dict(),
    ema_decay=config.ema_decay,
  )
  jax.block_until_ready(step())  # compiles
  times = []
  for _ in range(STEPS):
    begun = time.perf_counter()
    jax.block_until_ready(step())
    times.append(1e3 * (time.perf_counter() - begun))
  return statistics.median(times)


if __name__ == '__main__':
  os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  print(milliseconds(Trial(sys.argv[1], 0).load()))
