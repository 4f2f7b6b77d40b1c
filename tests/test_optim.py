import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scs_jax.train import optim

CONSTANT = {'name': 'constant', 'peak_learning_rate': 0.1}


def params():
  layer = {
    'kernel': jnp.ones((2, 2)),
    'raw_p': jnp.ones(2),
    'raw_q': jnp.ones(()),
    'bias': jnp.ones(2),
  }
  return {'scs_0': layer}


def updates(grads, **settings):
  optimizer = optim.make(10, name='sgd', schedule=CONSTANT, momentum=0.0, **settings)
  moved, _ = optimizer.update(grads, optimizer.init(params()), params())
  return jax.tree.map(lambda u: float(np.ravel(u)[0]), moved)['scs_0']


def test_one_cycle_has_the_shape_of_the_gallery():
  rate = optim.make_schedule(100, 'one_cycle', peak_learning_rate=1.0)
  values = np.array([float(rate(i)) for i in range(101)])
  assert values[0] == pytest.approx(1 / 25)
  assert values[30] == pytest.approx(1)
  assert values[15] == pytest.approx((1 + 1 / 25) / 2)  # half a cosine, half way up
  assert values[65] == pytest.approx(0.5, abs=1e-4)
  assert values[100] == pytest.approx(1 / 25 / 1e4, rel=1e-2)
  assert (np.diff(values[:31]) > 0).all()
  assert (np.diff(values[30:]) < 0).all()


def test_cosine_warms_up_and_ends_at_zero():
  rate = optim.make_schedule(100, 'cosine', peak_learning_rate=2.0, warmup_fraction=0.1)
  assert float(rate(0)) == 0
  assert float(rate(5)) == pytest.approx(1)
  assert float(rate(10)) == pytest.approx(2)
  assert float(rate(100)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize('total_steps', [1, 2, 3, 1000])
@pytest.mark.parametrize('warmup_fraction', [None, 0.0, 0.6, 0.9999])
@pytest.mark.parametrize('name', ['cosine', 'one_cycle'])
def test_every_length_and_warmup_makes_a_schedule(name, warmup_fraction, total_steps):
  settings = {'peak_learning_rate': 2.0, 'warmup_fraction': warmup_fraction}
  rate = optim.make_schedule(total_steps, name, **settings)
  values = np.array([rate(step) for step in (0, total_steps // 2, total_steps)])
  assert np.isfinite(values).all()
  assert (values >= 0).all()
  assert values.max() <= 2


def test_momentum_cycles_against_the_learning_rate():
  optimizer = optim.make(
    100,
    name='adamw',
    schedule={'name': 'one_cycle', 'peak_learning_rate': 0.1},
    momentum=0.95,
    cycle_momentum_to=0.85,
  )
  state, b1 = optimizer.init(params()), []
  for _ in range(101):
    _, state = optimizer.update(params(), state, params())
    b1.append(float(state[1].hyperparams['b1']))
  assert b1[0] == pytest.approx(0.95)
  assert b1[30] == pytest.approx(0.85)
  assert b1[100] == pytest.approx(0.95)


def test_groups_are_told_by_name():
  labels = jax.tree_util.tree_map_with_path(lambda path, _: optim.group_of(path), params())
  assert labels['scs_0'] == {'kernel': 'kernel', 'raw_p': 'p', 'raw_q': 'q', 'bias': 'other'}


def test_weight_decay_reaches_kernels_only():
  zero = jax.tree.map(jnp.zeros_like, params())
  assert updates(zero, weight_decay=0.5) == pytest.approx(
    {'kernel': -0.05, 'raw_p': 0, 'raw_q': 0, 'bias': 0}
  )


def test_weight_decay_of_p_and_q_is_their_own():
  zero = jax.tree.map(jnp.zeros_like, params())
  assert updates(zero, p_weight_decay=0.5, q_weight_decay=0.1) == pytest.approx(
    {'kernel': 0, 'raw_p': -0.05, 'raw_q': -0.01, 'bias': 0}
  )


def test_p_and_q_have_their_own_learning_rates():
  one = jax.tree.map(jnp.ones_like, params())
  assert updates(one, p_multiplier=3.0, q_multiplier=0.0) == pytest.approx(
    {'kernel': -0.1, 'raw_p': -0.3, 'raw_q': 0, 'bias': -0.1}
  )


def test_clipping_is_by_the_norm_of_everything():
  one = jax.tree.map(jnp.ones_like, params())  # 9 ones: norm 3
  assert updates(one, clip_norm=0.3)['kernel'] == pytest.approx(-0.01)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'name': 'adma'}, "unknown optimizer 'adma'; did you mean 'adamw'"),
    ({'schedule': {'name': 'onecycle'}}, "did you mean 'one_cycle'"),
    ({'schedule': {**CONSTANT, 'warmup': 3}}, "unknown setting of schedule 'constant' 'warmup'"),
    ({'cycle_momentum_to': 0.8}, "only goes with the schedule 'one_cycle', not 'constant'"),
  ],
)
def test_bad_settings_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    optim.make(10, **{'name': 'adamw', 'schedule': CONSTANT, **settings})
