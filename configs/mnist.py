"""MNIST, 99 % with few parameters: --config=configs/mnist.py:NETWORK.

    NETWORK      parameters   expected                                     on one CPU core
    plain        2,992        99.22 ± 0.07 % (row mnist_3000)              6 min
    separable    1,387        99.17 ± 0.10 % (row mnist_1400)              9 min
    smallest     881          98.93 ± 0.11 % (row mnist_881)               19 min
    883          883          98.96 ± 0.03 % (row mnist_883)               22 min
    eight        881          98.98 ± 0.15 % (row mnist_881_eight)         25 min

Without an argument it is `plain`: three SCS layers with absolute max pooling and a linear head.
Command: python -m scs_jax.main --config=configs/mnist.py --workdir=/tmp/mnist
Source:  Pisoni, 2022: Sharpened Cosine Similarity: Part 2. The networks are ours; how they were
         chosen is in experiments/records, and the rows are in experiments/reproduce.
"""

from ml_collections import ConfigDict

from scs_jax.train.config import default

PLAIN = (
  {'kind': 'scs', 'features': 11, 'window': 5},
  {'kind': 'pool'},
  {'kind': 'scs', 'features': 12, 'window': 3},
  {'kind': 'pool'},
  {'kind': 'scs', 'features': 10, 'window': 3},
  {'kind': 'pool', 'window': 4},
  {'kind': 'head'},
)


