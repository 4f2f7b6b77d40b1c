"""The lines that a person reads while a network trains."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from scs_jax.train.experiment import Experiment

GUESSING = (
  'this is no better than guessing. If it stays so, the outputs may vanish from layer to layer: '
  'use a smaller q, a p nearer to 1, fewer layers or model.scale_init; or lower the learning rate'
)

_MOST_EARLY = 0.25  # of an average, before a warning
_SHARPNESS = 10  # the advised average has 1 / _SHARPNESS of the run


def introduction(experiment: Experiment, mesh: Mesh, start: int) -> str:
  """Returns the first line: what is trained, on what, and from which step."""
  begin = f'going on at step {start} of' if start else 'starting,'
  return (
    f'{experiment.name}{_classes(experiment.class_names)}: {size(experiment.state_shapes.params)}, '
    f'{mesh.size} {jax.devices()[0].platform} devices, batch {experiment.config.batch_size}, '
    f'{begin} {experiment.total_steps} steps'
  )


def _classes(names: Sequence[str] | None) -> str:
  """Returns the number of classes and their names, of which it leaves out some."""
  if not names:
    return ''
  shown = ', '.join(names[:10]) + (', …' if len(names) > 10 else '')
  return f' ({len(names)} classes: {shown})'


def remarks(experiment: Experiment, start: int) -> list[str]:
  """Returns the lines after the first: what a run that begins takes over, and what looks wrong."""
  lines = []
  if not start and experiment.transferred is not None:
    lines.append(experiment.transferred.said)
  decay, steps = experiment.config.ema_decay, experiment.total_steps
  if decay is not None and (early := early_share(decay, steps)) > _MOST_EARLY:
    remedy = f'ema_decay={1 - _SHARPNESS / steps:.3g}' if steps > _SHARPNESS else 'ema_decay=None'
    lines.append(
      f'ema_decay={decay} averages over {1 / (1 - decay):,.0f} steps, and the run has {steps:,}: '
      f'{early:.0%} of the average will be weights of its first half. Use {remedy}, or train longer'
    )
  return lines


def early_share(decay: float, steps: int) -> float:
  """Returns which share of an exponential average over `steps` is of the first half of them."""
  return decay ** (steps / 2) / (1 + decay ** (steps / 2))


def evaluation(step: int, epoch: float, values: Mapping[str, float]) -> str:
  """Returns the line of an evaluation."""
  return f'epoch {epoch:6.2f}  step {step:6d}  {numbers(values)}'


def conclusion(
  experiment: Experiment, values: Mapping[str, float], steps: int, seconds: float
) -> str:
  """Returns the last line.

  Args:
    experiment: what was trained.
    values: of the last evaluation.
    steps: made by this process; 0 if the run had ended before.
    seconds: since the loop began, evaluations and saves included.
  """
  if 'val/accuracy' in values:
    reached = f'accuracy {values["val/accuracy"]:.2%}'
  else:
    reached = f'PSNR {values["val/psnr"]:.2f} dB'
  rate = steps * experiment.config.batch_size / seconds
  effort = f'{seconds:.0f} s, {rate:.0f} images/s in all' if steps else 'nothing was left to train'
  split = experiment.config.data.eval_split
  return f'{size(experiment.state_shapes.params)}, {split} {reached}, {effort}'


def guesses(values: Mapping[str, float], num_classes: int) -> bool:
  """Whether an evaluation is no better than equal logits for all classes.

  A network that cannot learn stays there: in `experiments/records`, networks whose outputs vanish
  have a loss within 0.02 % of log(num_classes) in every epoch, and all others are below that from
  the first evaluation on.
  """
  return 'val/accuracy' in values and values['val/loss'] > 0.999 * math.log(num_classes)


def batch_name(rows: Mapping[str, Any]) -> str:
  """Describes a batch for error messages: its epoch and its first indices."""
  epochs = '-'.join(str(e) for e in sorted({int(rows['epoch'][0]), int(rows['epoch'][-1])}))
  indices = ', '.join(map(str, rows['index'][:3]))
  return f'the batch of epoch {epochs} that begins with examples {indices}'


def size(params: Any) -> str:
  """Returns the number of learned values, e.g. '2,992 parameters'."""
  return f'{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters'


def numbers(values: Mapping[str, float]) -> str:
  """Returns metrics in one line."""
  return '  '.join(f'{name} {value:.4g}' for name, value in values.items())
