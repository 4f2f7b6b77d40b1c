"""Optimizers and schedules, with separate settings for kernels, p and q."""

import inspect
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from scs_jax.errors import ArgumentError, check_known

Schedule = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]
# Of the steps, as the SCS gallery had it. Momentum turns there too.
ONE_CYCLE_WARMUP = 0.3
COSINE_WARMUP = 0.05
_RISE, _FALL = 25.0, 1e4  # the peak over the first rate, and the first rate over the last


def one_cycle(
  total_steps: int,
  *,
  peak_learning_rate: float,
  warmup_fraction: float | None = None,
) -> Schedule:
  """Rises from 1/25 of the peak to the peak, then falls to 1e-4 of where it began.

  Both ways follow a half cosine. The SCS gallery was trained with this schedule.

  Args:
    total_steps: length of the training.
    peak_learning_rate: the largest rate.
    warmup_fraction: share of the steps that the rate rises; None means 0.3.

  References:
    Smith and Topin, 2018: Super-Convergence.
  """
  rising = ONE_CYCLE_WARMUP if warmup_fraction is None else warmup_fraction
  start = peak_learning_rate / _RISE
  return _up_and_down(total_steps, rising, start, peak_learning_rate, start / _FALL)


def cosine(
  total_steps: int, *, peak_learning_rate: float, warmup_fraction: float | None = None
) -> Schedule:
  """Rises linearly from 0, then falls to 0 as a cosine.

  Args:
    total_steps: length of the training.
    peak_learning_rate: the largest rate.
    warmup_fraction: share of the steps that the rate rises; None means 0.05.
  """
  rising = COSINE_WARMUP if warmup_fraction is None else warmup_fraction
  warmup_steps = min(round(rising * total_steps), total_steps - 1)  # at least one step falls
  return optax.warmup_cosine_decay_schedule(0.0, peak_learning_rate, warmup_steps, total_steps)


def constant(
  total_steps: int, *, peak_learning_rate: float, warmup_fraction: float | None = None
) -> Schedule:
  """Stays at the peak, after a linear rise from 0 if there is one.

  Args:
    total_steps: length of the training.
    peak_learning_rate: the largest rate.
    warmup_fraction: share of the steps that the rate rises; None means 0.
  """
  if not warmup_fraction:
    return optax.constant_schedule(peak_learning_rate)
  warmup_steps = max(1, round(warmup_fraction * total_steps))
  return optax.warmup_constant_schedule(0.0, peak_learning_rate, warmup_steps)


def _up_and_down(total_steps, rising_fraction, start, peak, end) -> Schedule:
  """Goes from start to peak to end along two half cosines; the peak may be the lowest point."""
  turn = max(rising_fraction * total_steps, 1)
  half = lambda a, b, t: b + (a - b) * (1 + jnp.cos(math.pi * jnp.clip(t, 0, 1))) / 2

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    down = half(peak, end, (step - turn) / max(total_steps - turn, 1))
    return jnp.where(step < turn, half(start, peak, step / turn), down)

  return schedule


SCHEDULES = {'one_cycle': one_cycle, 'cosine': cosine, 'constant': constant}
SCHEDULE_FREE = ('schedule_free_adamw', 'schedule_free_sgd')
OPTIMIZERS = ('adamw', 'sgd', 'muon', *SCHEDULE_FREE)
_MUON_RMS = 0.2  # of an update: that of Adam, so that its learning rates serve (Liu et al., 2025)


def make_schedule(total_steps: int, name: str, **settings) -> Schedule:
  """Returns the schedule `name` over `total_steps`: a function of the step.

  Raises:
    ArgumentError: for an unknown name or setting.
  """
  check_known('schedule', name, SCHEDULES)
  accepted = list(inspect.signature(SCHEDULES[name]).parameters)[1:]
  settings = {setting: value for setting, value in settings.items() if value is not None}
  for setting, value in settings.items():
    if setting not in accepted:
      raise ArgumentError(
        f'unknown setting of schedule {name!r} {setting!r}={value}: set it to None; known: '
        f'{", ".join(accepted)}'
      )
  return SCHEDULES[name](total_steps, **settings)


def make(
  total_steps: int,
  *,
  name: str,
  schedule: Mapping,
  momentum: float = 0.9,
  cycle_momentum_to: float | None = None,
  weight_decay: float = 0.0,
  p_weight_decay: float = 0.0,
  q_weight_decay: float = 0.0,
  p_multiplier: float = 1.0,
  q_multiplier: float = 1.0,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Returns the optimizer.

  Args:
    total_steps: length of the training.
    name: 'adamw'; 'sgd' with Nesterov momentum; 'muon' for kernels, with Adam for all else;
      'schedule_free_adamw' or 'schedule_free_sgd', see `averaged`.
    schedule: name and settings of the learning rate, for `make_schedule`.
    momentum: of SGD or Muon, or b1 of Adam. Of a schedule-free optimizer the share of the average
      in the parameters that are differentiated; greater than 0.
    cycle_momentum_to: momentum at the peak of the schedule 'one_cycle'; it moves there and back.
      None keeps the momentum constant.
    weight_decay: of kernels, decoupled and multiplied by the learning rate; biases and
      normalisation have none.
    p_weight_decay: of the unconstrained p; it pulls p towards log 2.
    q_weight_decay: of the unconstrained q, likewise.
    p_multiplier: on the learning rate of p.
    q_multiplier: on the learning rate of q.
    clip_norm: largest norm of the whole gradient; None does not clip.

  Raises:
    ArgumentError: for an unknown name, or settings that do not go together. Ranges are those of
      `scs_jax.train.keys.KEYS`, which checks them.
  """
  check_known('optimizer', name, OPTIMIZERS)
  decays = {'kernel': weight_decay, 'p': p_weight_decay, 'q': q_weight_decay}
  multipliers = {'p': p_multiplier, 'q': q_multiplier}
  learning_rate = make_schedule(total_steps, **schedule)
  momentum_now = _momentum(name, momentum, cycle_momentum_to, schedule, total_steps)
  optimizer = optax.chain(
    optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
    _direction(name, momentum_now),
    *(optax.add_decayed_weights(decay, mask=_only(group)) for group, decay in decays.items()),
    *(optax.masked(optax.scale(m), _only(group)) for group, m in multipliers.items()),
    optax.scale_by_learning_rate(learning_rate),
  )
  if name in SCHEDULE_FREE:
    return contrib.schedule_free(optimizer, learning_rate, b1=momentum)
  return optimizer


def averaged(state: optax.OptState, params: optax.Params) -> optax.Params:
  """Returns the parameters to evaluate after a step of a schedule-free optimizer.

  Args:
    state: of the optimizer, which may leave some parameters out, as `optax.masked` does.
    params: after that step: between the average and the newest point.

  Returns:
    The average of all points so far, like `params`; what the optimizer leaves out is unchanged.

  References:
    Defazio et al., 2024: The Road Less Scheduled.
  """
  is_free = lambda part: isinstance(part, contrib.ScheduleFreeState)
  (free,) = filter(is_free, jax.tree.leaves(state, is_leaf=is_free))
  is_masked = lambda part: isinstance(part, optax.MaskedNode)
  choose = lambda z, ours, other: other if is_masked(z) else ours
  trained = jax.tree.map(lambda z, y: choose(z, y, z), free.z, params, is_leaf=is_masked)
  found = contrib.schedule_free_eval_params(free, trained)
  return jax.tree.map(choose, free.z, found, params, is_leaf=is_masked)


def group_of(path: tuple) -> str:
  """Returns the group of a parameter, from the last name in its path.

  'p' and 'q' are those of SCS layers, 'kernel' has weight decay, and 'other' are biases and
  normalisation.
  """
  name = str(getattr(path[-1], 'key', ''))
  return {'raw_p': 'p', 'raw_q': 'q', 'kernel': 'kernel'}.get(name, 'other')


def _only(group: str):
  """Returns the mask of the parameters of a group, as a function of the tree."""
  return lambda tree: jax.tree_util.tree_map_with_path(
    lambda path, _: group_of(path) == group, tree
  )


def _momentum(name, momentum, cycle_to, schedule, total_steps) -> float | Schedule:
  if name in SCHEDULE_FREE and not momentum:
    raise ArgumentError(
      f'optimizer.momentum={momentum} must be greater than 0 for optimizer.name={name!r}'
    )
  if cycle_to is None:
    return momentum
  if name in SCHEDULE_FREE:
    raise ArgumentError(
      f'optimizer.cycle_momentum_to={cycle_to} does not go with optimizer.name={name!r}: set it to '
      'None'
    )
  if schedule['name'] != 'one_cycle':
    raise ArgumentError(
      f"optimizer.cycle_momentum_to={cycle_to} only goes with the schedule 'one_cycle', not "
      f'{schedule["name"]!r} (optimizer.schedule.name): set it to None'
    )
  turn = schedule.get('warmup_fraction')
  turn = ONE_CYCLE_WARMUP if turn is None else turn
  return _up_and_down(total_steps, turn, momentum, cycle_to, momentum)


def _direction(name, momentum) -> optax.GradientTransformation:
  """Returns what makes of a gradient the step for a learning rate of 1, before weight decay."""
  if name == 'schedule_free_sgd':
    return optax.identity()
  if name == 'schedule_free_adamw':
    return optax.scale_by_rms(decay=0.999, eps_in_sqrt=False, bias_correction=True)
  if name == 'adamw':
    return optax.inject_hyperparams(optax.scale_by_adam)(b1=momentum)
  if name == 'muon':
    return optax.inject_hyperparams(_muon)(beta=momentum)
  make_trace = lambda decay: optax.trace(decay, nesterov=True)
  return optax.inject_hyperparams(make_trace)(decay=momentum)


def _muon(beta: jax.typing.ArrayLike) -> optax.GradientTransformation:
  """Returns Muon for kernels, as matrices of windows by outputs, and Adam for the rest."""

  def matrices(params):
    of_kernel = lambda x: contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1)
    is_matrix = lambda path, x: group_of(path) == 'kernel' and x.ndim > 1
    choose = lambda path, x: of_kernel(x) if is_matrix(path, x) else None
    return jax.tree_util.tree_map_with_path(choose, params)

  muon = contrib.muon(
    1.0,
    beta=beta,
    adam_b1=beta,
    consistent_rms=_MUON_RMS,
    muon_weight_dimension_numbers=matrices,
  )
  return optax.chain(muon, optax.scale(-1.0))  # the learning rate, and the sign, come later
