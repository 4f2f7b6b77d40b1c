"""Attacks on pairs of networks: adversarial changes, corruptions, and checks of the gradients.

Images stay between 0 and 1, and every attack knows all parameters. An attack fails for the wrong
reason if the gradients are hidden. Four checks look for that: an attack without a bound must reach
0 %; an attack along the gradient must be stronger than noise of the same size; twenty restarts
should find little more than one; and images made for the other network should do less harm than
images made for this one.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Network = Callable[[jax.Array], jax.Array]  # images [n, height, width, channels] to logits

IMAGES = 1000
STEPS = 40
# The usual sizes for such images: shares of a pixel's range, and lengths of the whole change.
LINF = tuple(n / 255 for n in (1, 2, 4, 8, 16))
L2 = (0.1, 0.25, 0.5, 1.0)
CHECKED = 4 / 255  # size at which the gradients are checked


@functools.partial(jax.jit, static_argnames=('model', 'norm'))
def ascend(
  model: Network,
  x: jax.Array,
  labels: jax.Array,
  change: jax.Array,
  *,
  norm: str,
  size: float,
  rate: float,
) -> tuple[jax.Array, jax.Array]:
  """Takes one step up the loss, inside the ball and inside the image.

  Returns:
    The next change of the images, `[n, height, width, channels]`, and the losses before it, `[n]`.
  """

  def loss(change: jax.Array) -> tuple[jax.Array, jax.Array]:
    losses = optax.softmax_cross_entropy_with_integer_labels(model(x + change), labels)
    return losses.sum(), losses

  gradient, losses = jax.grad(loss, has_aux=True)(change)
  change = change + rate * direction(gradient, norm=norm)
  return project(x, change, norm=norm, size=size), losses


def direction(change: jax.Array, *, norm: str) -> jax.Array:
  """Returns the change of length 1 that ascends most steeply along `change`, in this norm."""
  if norm == 'linf':
    return jnp.sign(change)
  return change / jnp.maximum(_length(change), 1e-12)


def project(x: jax.Array, change: jax.Array, *, norm: str, size: float) -> jax.Array:
  """Returns the nearest change inside the ball, clipped so that `x + change` is from 0 to 1."""
  if norm == 'linf':
    change = jnp.clip(change, -size, size)
  else:
    change = change * jnp.minimum(1.0, size / jnp.maximum(_length(change), 1e-12))
  return jnp.clip(x + change, 0.0, 1.0) - x


def attack(
  model: Network,
  x: jax.Array,
  labels: jax.Array,
  key: jax.Array,
  *,
  norm: str,
  size: float,
  steps: int,
  restarts: int,
) -> tuple[jax.Array, list[float]]:
  """Projected gradient ascent on the cross-entropy. One step without restarts is FGSM.

  Args:
    model: the network under attack.
    x: images from 0 to 1, `[n, height, width, channels]`.
    labels: `[n]`, integers.
    key: of the random starts.
    norm: 'linf' or 'l2'.
    size: radius of the ball.
    steps: number of gradient steps of each start.
    restarts: number of starts; the worst image of all starts counts.

  Returns:
    The worst images found, `[n, height, width, channels]`, and the mean loss of the last start:
    before its first step and after each step.

  References:
    Madry et al., 2017: Towards Deep Learning Models Resistant to Adversarial Attacks.
  """
  rate = size if steps == 1 else 2.5 * size / steps
  worst, highest, course = x, jnp.full(len(x), -jnp.inf), []
  for start in jax.random.split(key, restarts):
    change = jnp.zeros_like(x)
    if steps > 1:
      noise = jax.random.uniform(start, x.shape, minval=-1.0)
      change = project(x, size * direction(noise, norm=norm), norm=norm, size=size)
    course = []
    tried, losses = change, highest
    for _ in range(steps + 1):  # the last round only computes losses
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
  """Returns images `[n, height, width, channels]` with changes that no adversary chose."""
  noise = jax.random.normal(key, x.shape)
  mean = x.mean((1, 2, 3), keepdims=True)
  clip = functools.partial(jnp.clip, min=0.0, max=1.0)
  return {
    **{f'Gaussian noise, {s}': clip(x + s * noise) for s in (0.05, 0.1, 0.2)},
    **{f'contrast × {c}': clip(mean + c * (x - mean)) for c in (0.25, 0.5, 2.0)},
    **{f'brightness {b:+}': clip(x + b) for b in (-0.2, 0.1, 0.3)},
  }


def measure(
  pair: dict[str, Network], images: jax.Array, labels: jax.Array, key: jax.Array
) -> tuple[dict[str, dict[str, float]], dict[str, list[float]]]:
  """Attacks two networks on the first 1,000 images that both classify right.

  Both networks therefore start at 100 %.

  Args:
    pair: the networks, by name.
    images: from 0 to 1, `[n, height, width, channels]`.
    labels: `[n]`, integers.
    key: of the noise and of the random starts.

  Returns:
    For each attack the share of these images that each network still classifies right, and for
    each network the mean loss along an attack of one start.
  """
  right = jnp.stack([model(images).argmax(-1) == labels for model in pair.values()])
  accuracy = {name: float(share) for name, share in zip(pair, right.mean(1), strict=True)}
  chosen = jnp.flatnonzero(right.all(0))[:IMAGES]
  x, labels = images[chosen], labels[chosen]
  table = {'all test images': accuracy}
  curves, made = {}, {}

  def score(row: str, name: str, x: jax.Array) -> None:
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
  at = f'ℓ∞ {round(255 * CHECKED)}/255'
  for name, other in zip(pair, reversed(pair), strict=True):
    score(f'check: what was made for the other network, {at}', name, made[other])
  return table, curves
