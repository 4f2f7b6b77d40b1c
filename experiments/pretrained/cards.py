"""The cards of the networks that come with the package, and the table of them."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.results import Trial, percent
from scs_jax import pretrained
from scs_jax.data import Examples
from scs_jax.train import as_float

FOLDER = pathlib.Path(pretrained.__file__).parent
BATCH = 500  # images

# The makers of each data set. The weights are ours.
DATA = {
  'mnist': 'MNIST, by Yann LeCun, Corinna Cortes and Christopher Burges',
  'fashion_mnist': 'Fashion-MNIST, by Han Xiao, Kashif Rasul and Roland Vollgraf',
  'cifar10': 'CIFAR-10, by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton',
}
# Images that need no data set: with them everyone can check the network, in any language.
_PROBE = 'image[i, y, x, c] = ((i + 1) * (7 * y + 13 * x + 29 * c) % 256) / 255, for i = 0 and 1'

Network = Callable[[jax.Array], jax.Array]


def path(name: str, suffix: str) -> pathlib.Path:
  """Returns the path of a file of the network `name`."""
  return FOLDER / f'{name}{suffix}'


def write(name: str, card: Mapping[str, Any]) -> None:
  """Writes a card."""
  path(name, '.json').write_text(json.dumps(card, indent=1) + '\n')


def described(
  trial: Trial, line: Mapping[str, Any], over_seeds: Sequence[float], config: str, names: list[str]
) -> dict[str, Any]:
  """Returns what a card says of the training.

  Args:
    trial: the run.
    line: its result.
    over_seeds: the accuracies of all seeds.
    config: its whole config as JSON.
    names: of the classes.
  """
  data_name = line['evaluated_on'].split()[0]
  return {
    'parameters': line['parameters'],
    'accuracy': line['accuracy'],
    'evaluated_on': line['evaluated_on'],
    'accuracy_over_seeds': list(over_seeds),
    'chosen': f'seed {trial.seed}, whatever its accuracy',
    'command': command(trial),
    'seed': trial.seed,
    'classes': names,
    'licence': 'Apache-2.0',
    'data': DATA[data_name],
    **{key: line[key] for key in ('commit', 'date', 'machine', 'versions')},
    'config': json.loads(config),
  }


def measured(name: str, network: Network, examples: Examples) -> dict[str, Any]:
  """Returns what a card says of the file of weights."""
  images = jnp.asarray(probe(examples.image_shape))
  return {
    'accuracy': accuracy(network, examples),
    'images': examples.size,
    'sha256': hashlib.sha256(path(name, '.safetensors').read_bytes()).hexdigest(),
    'bytes': path(name, '.safetensors').stat().st_size,
    'input': {'shape': list(examples.image_shape), 'dtype': 'float32', 'range': [0, 1]},
    'probe': {'input': _PROBE, 'logits': np.asarray(network(images)).round(5).tolist()},
  }


def accuracy(network: Network, examples: Examples) -> float:
  """Returns the share of examples that a network classifies correctly."""
  logits = jax.jit(lambda images: network(as_float(images)))
  right = 0
  for start in range(0, examples.size, BATCH):
    rows = slice(start, start + BATCH)
    right += int((jnp.argmax(logits(examples.images[rows]), -1) == examples.labels[rows]).sum())
  return right / examples.size


def probe(shape: Sequence[int]) -> np.ndarray:
  """Returns the two images `[2, height, width, channels]` of `_PROBE`."""
  image, y, x, channel = np.ogrid[tuple(map(slice, (2, *shape)))]
  return ((image + 1) * (7 * y + 13 * x + 29 * channel) % 256 / 255).astype(np.float32)


def command(trial: Trial) -> str:
  """Returns the command that trains a network again."""
  changes = {**trial.changes, 'seed': trial.seed}
  flags = ' '.join(f'--config.{key}={value}' for key, value in changes.items())
  return f'python -m scs_jax.main --config={trial.config} {flags} --workdir=DIR'


def table() -> str:
  """Returns the table of README.md."""
  rows = [
    '| name | parameters | accuracy of this file | over seeds | kB | seed 0 of |',
    '|---|---|---|---|---|---|',
  ]
  cards = {name: pretrained.card(name) for name in pretrained.names()}
  order = lambda name: (cards[name]['evaluated_on'], cards[name]['parameters'])
  for name in sorted(cards, key=order):
    card = cards[name]
    seeds = card['accuracy_over_seeds']
    changes = card['command'].partition('--config=')[2].removesuffix(' --workdir=DIR')
    rows.append(
      f'| `{name}` | {card["parameters"]:,} | {100 * card["accuracy"]:.2f} % '
      f'| {percent(seeds, 2)} ({len(seeds)}) | {card["bytes"] / 1000:.1f} | `{changes}` |'
    )
  return '\n'.join(rows)
