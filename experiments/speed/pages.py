"""Prints the milliseconds of a training step of a config on one CPU core.

python -m experiments.speed.pages configs/records.py

`python -m experiments.speed --table=pages` starts it with and without huge pages, because the C
library reads its settings from the environment when a process starts.
"""

import os
import sys
from typing import Any

from experiments.results import Trial
from experiments.speed.networks import on_random_images, timed_step
from experiments.speed.timing import interleaved

IMAGES = {'cifar10': (32, 32, 3), 'mnist': (28, 28, 1)}


def main(path: str) -> None:
  os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  config: Any = Trial(path, seed=0).load()
  step = timed_step(on_random_images(config, IMAGES[config.data.name]))
  (seconds,) = interleaved({'step': step}, rounds=60).values()
  print(1e3 * seconds)


if __name__ == '__main__':
  main(sys.argv[1])
