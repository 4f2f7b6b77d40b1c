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


def test_a_constant_rate_may_rise_first():
  rate = optim.make_schedule(100, 'constant', peak_learning_rate=2.0, warmup_fraction=0.1)
  assert [float(rate(step)) for step in (0, 5, 10, 100)] == pytest.approx([0, 1, 2, 2])


def test_muon_orthogonalises_kernels_and_leaves_the_rest_to_adam():
  """The update of a kernel is orthogonal, and its size is that of Adam's, 0.2 of the rate."""
  key = jax.random.key(0)
  tree = {'conv': {'kernel': jnp.zeros((3, 3, 2, 6)), 'raw_p': jnp.zeros(6)}}
  grads = jax.tree.map(lambda x: jax.random.normal(key, x.shape), tree)
  make = lambda name: optim.make(10, name=name, schedule=CONSTANT, momentum=0.9)
  step = lambda name: make(name).update(grads, make(name).init(tree), tree)[0]['conv']
  muon = step('muon')
  kernel = np.asarray(muon['kernel']).reshape(18, 6)
  sizes = np.linalg.svd(kernel, compute_uv=False)
  assert sizes.max() < 2 * sizes.min()
  assert np.sqrt(np.square(kernel).mean()) == pytest.approx(0.1 * 0.2, rel=0.3)
  assert np.vdot(kernel, np.asarray(grads['conv']['kernel'])) < 0  # downhill
  # Adam's first step is the sign of the gradient; Nesterov's is longer by b1 (1 - b1) / (1 - b1²).
  first = -0.1 * (1 + 0.9 * 0.1 / (1 - 0.9**2))
  np.testing.assert_allclose(muon['raw_p'], first * np.sign(grads['conv']['raw_p']), rtol=1e-4)


@pytest.mark.parametrize('name', optim.SCHEDULE_FREE)
def test_schedule_free_evaluates_the_average_of_its_points(name):
  """With a constant rate every point weighs the same; z goes down a constant slope."""
  optimizer = optim.make(10, name=name, schedule=CONSTANT, momentum=0.5)
  tree = {'a': {'kernel': jnp.ones(3)}, 'b': {'kernel': jnp.ones(2)}}
  one, state = jax.tree.map(jnp.ones_like, tree), optimizer.init(tree)
  for _ in range(3):
    moved, state = optimizer.update(one, state, tree)
    tree = jax.tree.map(jnp.add, tree, moved)
  points = np.array([1 - 0.1, 1 - 0.2, 1 - 0.3])
  average = optim.averaged(state, tree)
  np.testing.assert_allclose(average['a']['kernel'], points.mean(), rtol=1e-4)
  np.testing.assert_allclose(tree['b']['kernel'], (points.mean() + points[-1]) / 2, rtol=1e-4)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'name': 'schedule_free_sgd', 'momentum': 0.0}, 'momentum=0.0 must be greater than 0'),
    (
      {'name': 'schedule_free_adamw', 'cycle_momentum_to': 0.8},
      "cycle_momentum_to=0.8 does not go with .*schedule_free_adamw': set it to None",
    ),
    ({'name': 'adma'}, "unknown optimizer 'adma'; did you mean 'adamw'"),
    ({'schedule': {'name': 'onecycle'}}, "did you mean 'one_cycle'"),
    ({'schedule': {**CONSTANT, 'warmup': 3}}, "unknown setting of schedule 'constant' 'warmup'"),
    ({'cycle_momentum_to': 0.8}, "only goes with the schedule 'one_cycle', not 'constant'"),
  ],
)
def test_bad_settings_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    optim.make(10, **{'name': 'adamw', 'schedule': CONSTANT, **settings})
