"""Attacks the networks of run.py: SCS beside its convolutional twin, seed by seed.

python experiments/claims/robustness.py --data=fashion_mnist --workdir=DIR

If DIR is that of run.py its networks are taken; what is missing there, or not at its end, is trained first. With
--against='SCS: q from 1' a variant takes the twin's place.

The first 1,000 test images that both networks of a seed classify right, so that both begin at 100 %.
Images stay between 0 and 1; every attack sees all parameters. Whether gradients are merely hidden is
looked at in four ways: an attack without a bound must reach 0 %, one that follows the gradient must be
stronger than noise of the same size, twenty restarts should find little more than one, and what was
made for the other network should do less than what was made for this one.
"""

import functools
import os
import pathlib
import re
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import matplotlib
import optax
from absl import app, flags
from flax import nnx

matplotlib.use('Agg')
from matplotlib import pyplot as plt

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from net import ClaimNet  # noqa: E402
from results import (  # noqa: E402
  Trial,
  add_missing,
  percent,
  read,
  results_file,
  run,
  seeds,
  with_key,
)
from variants import SETS, changes, comparisons, folder_of  # noqa: E402

from scs_jax import models, train  # noqa: E402
from scs_jax.data import load  # noqa: E402
from scs_jax.errors import check_known  # noqa: E402

DATA = flags.DEFINE_enum('data', 'fashion_mnist', list(SETS), 'Which networks.')
AGAINST = flags.DEFINE_string('against', 'conv + BatchNorm + ReLU', 'The other one: a variant.')
FIRST = flags.DEFINE_integer('first_seed', 0, 'Where to begin.')
SEEDS = flags.DEFINE_integer('seeds', 5, 'Seeds up to this one, exclusive.')
WORKDIR = flags.DEFINE_string('workdir', None, 'That of run.py, or its like.', required=True)
RESULTS = flags.DEFINE_string(
  'results', None, 'Gets a line for a seed; if not given, robustness.jsonl in --workdir does.'
)

IMAGES = 1000
STEPS = 40
# As published for such images: shares of the range of a pixel, and lengths of the whole change.
LINF = tuple(n / 255 for n in (1, 2, 4, 8, 16))
L2 = (0.1, 0.25, 0.5, 1.0)
CHECKED = 4 / 255  # the size at which gradients are looked at


@functools.partial(jax.jit, static_argnames=('model', 'norm'))
def ascend(model, x, labels, change, *, norm, size, rate):
  """Takes one step up the loss, inside the ball and inside the image.

  Returns:
    The next change of the images, `[n, height, width, channels]`, and the losses before it, `[n]`.
  """

  def loss(change):
    losses = optax.softmax_cross_entropy_with_integer_labels(model(x + change), labels)
    return losses.sum(), losses

  gradient, losses = jax.grad(loss, has_aux=True)(change)
  change = change + rate * direction(gradient, norm=norm)
  return project(x, change, norm=norm, size=size), losses


def direction(change, *, norm):
  """Returns the change of length 1 that ascends most steeply along `change`, in this norm."""
  if norm == 'linf':
    return jnp.sign(change)
  return change / jnp.maximum(_length(change), 1e-12)


def project(x, change, *, norm, size):
  """Brings a change back into the ball and what it makes back into the image."""
  if norm == 'linf':
    change = jnp.clip(change, -size, size)
  else:
    change = change * jnp.minimum(1.0, size / jnp.maximum(_length(change), 1e-12))
  return jnp.clip(x + change, 0.0, 1.0) - x


def attack(
  model: Callable, x: jax.Array, labels: jax.Array, key: jax.Array, *,
  norm: str, size: float, steps: int, restarts: int,
) -> tuple[jax.Array, list[float]]:  # fmt: skip
  """Projected gradient ascent on the cross-entropy; one step without restarts is FGSM.

  Returns:
    The worst images found, `[n, height, width, channels]`, and the mean loss before the first step
    of the last start and after each.

  References:
    Madry et al., 2017: Towards Deep Learning Models Resistant to Adversarial Attacks.
  """
  rate = size if steps == 1 else 2.5 * size / steps
  worst, highest = x, jnp.full(len(x), -jnp.inf)
  for start in jax.random.split(key, restarts):
    change = jnp.zeros_like(x)
    if steps > 1:
      noise = jax.random.uniform(start, x.shape, minval=-1.0)
      change = project(x, size * direction(noise, norm=norm), norm=norm, size=size)
    course = []
    for _ in range(steps + 1):  # the last one only for its losses
      tried = change
      change, losses = ascend(model, x, labels, tried, norm=norm, size=size, rate=rate)
      course.append(float(losses.mean()))
    better = losses > highest
    worst = jnp.where(better[:, None, None, None], x + tried, worst)
    highest = jnp.maximum(losses, highest)
  return worst, course


def _length(change: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.square(change).sum((1, 2, 3), keepdims=True))


def corruptions(x: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
  """What happens to images without anybody's intent."""
  noise = jax.random.normal(key, x.shape)
  mean = x.mean((1, 2, 3), keepdims=True)
  clip = functools.partial(jnp.clip, min=0.0, max=1.0)
  return {
    **{f'Gaussian noise, {s}': clip(x + s * noise) for s in (0.05, 0.1, 0.2)},
    **{f'contrast × {c}': clip(mean + c * (x - mean)) for c in (0.25, 0.5, 2.0)},
    **{f'brightness {b:+}': clip(x + b) for b in (-0.2, 0.1, 0.3)},
  }


def measure(pair: dict[str, Callable], images: jax.Array, labels: jax.Array, key: jax.Array):
  """Returns the share of images that each network still classifies right, and the loss curves."""
  right = jnp.stack([model(images).argmax(-1) == labels for model in pair.values()])
  accuracy = {name: float(share) for name, share in zip(pair, right.mean(1), strict=True)}
  chosen = jnp.flatnonzero(right.all(0))[:IMAGES]
  x, labels = images[chosen], labels[chosen]
  table = {'all test images': accuracy}
  curves, made = {}, {}

  def score(row, name, x):
    share = float((pair[name](x).argmax(-1) == labels).mean())
    table.setdefault(row, {})[name] = share

  for name, model in pair.items():
    run = functools.partial(attack, model)
    for size in LINF:
      pixels = f'{round(255 * size)}/255'
      x1, _ = run(x, labels, key, norm='linf', size=size, steps=1, restarts=1)
      score(f'FGSM, ℓ∞ {pixels}', name, x1)
      x1, _ = run(x, labels, key, norm='linf', size=size, steps=STEPS, restarts=5)
      score(f'PGD, ℓ∞ {pixels}', name, x1)
    for size in L2:
      x1, _ = run(x, labels, key, norm='l2', size=size, steps=STEPS, restarts=5)
      score(f'PGD, ℓ2 {size}', name, x1)
    for row, changed in corruptions(x, key).items():
      score(row, name, changed)
    at = f'ℓ∞ {round(255 * CHECKED)}/255'
    noise = CHECKED * jax.random.rademacher(key, x.shape, x.dtype)
    score(f'check: noise of {at}', name, jnp.clip(x + noise, 0.0, 1.0))
    one, curves[name] = run(x, labels, key, norm='linf', size=CHECKED, steps=STEPS, restarts=1)
    score(f'check: PGD {at}, one start', name, one)
    made[name], _ = run(x, labels, key, norm='linf', size=CHECKED, steps=STEPS, restarts=20)
    score(f'check: PGD {at}, twenty starts', name, made[name])
    free, _ = run(x, labels, key, norm='linf', size=1.0, steps=STEPS, restarts=1)
    score('check: PGD without a bound', name, free)
  for name, other in zip(pair, reversed(pair), strict=True):
    score(f'check: what was made for the other network, {at}', name, made[other])
  return table, curves


def trained(data: str, name: str, seed: int) -> Callable:
  """Returns a network of run.py, trained first as far as it is not."""
  trial = Trial(
    f'experiments/claims/config.py:{data}', seed, changes(data, *comparisons(data)[name])
  )
  folder = folder_of(WORKDIR.value, data, name, seed)
  run(trial, folder)  # goes on where it stopped, at its end too
  model = train.trained_model(trial.load(), str(folder))
  graph, state = nnx.split(model)
  return lambda x: nnx.merge(graph, state)(x, train=False)


def outcome(images: jax.Array, labels: jax.Array, *, data: str, against: str, seed: int) -> dict:
  """Attacks both networks of a seed."""
  pair = {name: trained(data, name, seed) for name in ('SCS', against)}
  shares, curves = measure(pair, images, labels, jax.random.key(seed))
  return {'shares': shares, 'loss curves': curves}


def main(_):
  os.environ.setdefault('JAX_NUM_CPU_DEVICES', '1')  # attacks are not sharded
  models.MODELS['claim_net'] = ClaimNet
  test = load(DATA.value, 'test')
  images, labels = train.as_float(jnp.asarray(test.images)), jnp.asarray(test.labels)
  results = results_file(RESULTS.value, WORKDIR.value, 'robustness.jsonl')
  others = [name for name in comparisons(DATA.value) if name != 'SCS']
  check_known('--against', AGAINST.value, others)
  networks = {'data': DATA.value, 'against': AGAINST.value}
  for seed in seeds(FIRST.value, SEEDS.value):
    key = {**networks, 'seed': seed}
    add_missing(results, key, functools.partial(outcome, images, labels, **key))
  print(table(with_key(read(results), networks)))


def table(lines: list[dict]) -> str:
  """Returns the table in Markdown of the lines of one pair, a line for each seed."""
  data, pair = lines[0]['data'], ('SCS', lines[0]['against'])
  shares = [line['shares'] for line in lines]
  rows = (
    f'| {row} | {" | ".join(percent(s[row][name] for s in shares) for name in pair)} |'
    for row in shares[0]
  )
  return '\n'.join([f'| {data}, n = {len(lines)} | {" | ".join(pair)} |', '|---|---|---|', *rows])


def draw(lines: list[dict]) -> None:
  """Draws how the loss grows along an attack: a plateau at once would mean hidden gradients."""
  data, pair = lines[0]['data'], ('SCS', lines[0]['against'])
  figure, axes = plt.subplots(figsize=(5, 3.8), layout='constrained')
  for i, name in enumerate(pair):
    for n, line in enumerate(lines):
      axes.plot(line['loss curves'][name], color=f'C{i}', label=None if n else name)
  axes.set(xlabel='steps of PGD', ylabel='mean loss', title=f'ℓ∞ {round(255 * CHECKED)}/255')
  figure.legend(loc='outside upper center', ncols=2, frameon=False)
  other = re.sub(r'\W+', '_', pair[1])
  figure.savefig(HERE / f'robustness_{data}_{other}.png', dpi=150)


if __name__ == '__main__':
  app.run(main)
