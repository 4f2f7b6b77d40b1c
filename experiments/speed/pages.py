"""A training step of a config on one CPU core: python experiments/speed/pages.py CONFIG prints milliseconds.

`run.py --table=pages` starts it with and without huge pages: they are asked for in the environment of a
process, before it begins.
"""

import os
import sys

from networks import ROOT, step_of
from timing import interleaved

sys.path[:0] = [str(ROOT), str(ROOT / 'experiments')]

from results import Trial  # noqa: E402

IMAGES = {'cifar10': (32, 32, 3), 'mnist': (28, 28, 1)}

if __name__ == '__main__':
  os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  config = Trial(sys.argv[1], 0).load()
  (seconds,) = interleaved({'step': step_of(config, IMAGES[config.data.name])}, rounds=60).values()
  print(1e3 * seconds)
