"""First weights from another network, and arrays that training leaves as they are."""

import jax
import numpy as np
import pytest

from scs_jax import data, pretrained, train
from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment, freeze, sharding
from scs_jax.train.config import default, from_dict

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
BODY = ({'kind': 'scs', 'features': 4, 'strides': 2}, {'kind': 'scs', 'features': 3, 'strides': 2})


def small(classes=4, variant='conv', optimizer='adamw', **changes) -> Experiment:
  config = default()
  config.model.update(stack=(*BODY, {'kind': 'head'}), variant=variant)
  config.update(batch_size=16, total_epochs=1, ema_decay=0.5 if optimizer == 'adamw' else None)
  config.optimizer.schedule.update(name='constant', peak_learning_rate=0.01)
  config.optimizer.update(name=optimizer, cycle_momentum_to=None, weight_decay=0.1)
  config.update(changes)
  labels = np.arange(32, dtype=np.int32) % classes
  examples = data.Examples(PIXELS, labels, num_classes=classes)
  return Experiment(config, train=examples, test=examples)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """The workdir of a twin with four classes, and its averaged arrays by name."""
  workdir = tmp_path_factory.mktemp('source')
  train.run(small(), workdir)
  return workdir, pretrained.weights.named(train.load(workdir))


def arrays(part):
  """Returns the arrays of a state or an average by name."""
  return {
    freeze.name_of(path[1:]): np.asarray(leaf)
    for path, leaf in jax.tree.leaves_with_path((part.params, part.statistics))
  }


def stepped(experiment, steps=2):
  """Returns the first state and the one after some steps."""
  mesh = experiment.mesh()
  state, batches = experiment.first_state(mesh), experiment.train_batches()
  first, step = jax.device_get(state), experiment.train_step(mesh)
  for _ in range(steps):
    state, _ = step(state, sharding.to_global(mesh, next(batches)))
  return first, jax.device_get(state)


def test_a_new_head_is_told_and_everything_else_is_taken_over(
  quick_compilation, source, tmp_path, capsys
):
  workdir, theirs = source
  experiment = small(classes=2, init_from=str(workdir), seed=3)
  train.run(experiment, tmp_path / 'run')
  said = capsys.readouterr().out
  assert 'init_from=' in said
  assert '10 of 12 arrays are taken over' in said
  assert (
    'of another shape: head_2.bias (there 4, here 2), head_2.kernel (there 12×4, here 12×2)' in said
  )
  first = arrays(experiment.first_state(experiment.mesh()))
  for name, array in theirs.items():
    assert np.array_equal(first[name], array) == (not name.startswith('head')), name
  # Resumed with other first weights it would be another run; with the same ones they need not
  # exist any more.
  with pytest.raises(ArgumentError, match=r'init_from: .*there, mnist_1382 here'):
    train.run(small(classes=2, init_from='mnist_1382', seed=3), tmp_path / 'run')
  values = train.run(small(classes=2, init_from=str(workdir), seed=3), tmp_path / 'run')
  assert 'init_from' not in capsys.readouterr().out
  assert 'val/accuracy' in values


def test_resuming_does_not_need_the_source(quick_compilation, tmp_path, source):
  link = tmp_path / 'link'
  link.symlink_to(source[0])
  changes = {'init_from': str(link), 'classes': 2}
  values = train.run(small(**changes), tmp_path / 'run')
  link.unlink()
  assert train.run(small(**changes), tmp_path / 'run') == values


@pytest.mark.parametrize('optimizer', ['adamw', 'schedule_free_sgd'])
def test_what_is_frozen_keeps_every_bit(quick_compilation, optimizer):
  """Also in the average that is evaluated; weight decay does not reach it."""
  experiment = small(optimizer=optimizer, freeze=('scs_0', '*_1.conv', '*.var'))
  first, last = stepped(experiment)
  for part in (last, last.average):
    before, after = arrays(first), arrays(part)
    for name in before:
      held = name.startswith(('scs_0.', 'scs_1.conv.')) or name.endswith('.var')
      assert np.array_equal(before[name], after[name]) == held, name
  moments = [leaf.shape for leaf in jax.tree.leaves(experiment.state_shapes.optimizer)]
  assert (3, 3, 1, 4) not in moments  # the frozen kernel has none


def test_a_frozen_body_answers_as_in_evaluation(quick_compilation):
  experiment = small(freeze=('scs_*',))
  state = experiment.first_state(experiment.mesh())
  answers = [
    experiment.structure.merge(state.params, state.statistics, train=mode)(PIXELS / 255.0)
    for mode in (True, False)
  ]
  np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'init_from': 'mnist1382'}, r"init_from='mnist1382': unknown .*did you mean 'mnist_1382'"),
    ({'init_from': './nowhere'}, "init_from='./nowhere': is no folder: name the workdir"),
    ({'init_from': '{tmp}'}, 'holds no run: name the workdir of a training run'),
    ({'init_from': '{tmp}/a.safetensors'}, r'a\.safetensors cannot be read'),
    ({'init_from': 'mnist_1382', 'variant': 'conv'}, 'nothing in it has the name and the shape'),
    ({'freeze': ('scs_9',)}, r"freeze='scs_9' matches no array .*did you mean 'scs_[01]'"),
    ({'freeze': ('scs_0', '*.kernels')}, r"freeze='\*\.kernels' matches no array"),
    ({'freeze': ('*',)}, 'leaves no parameter to train'),
  ],
)
def test_what_cannot_be_meant_is_told(tmp_path, changes, message):
  changes = {
    key: value.format(tmp=tmp_path) if key == 'init_from' else value
    for key, value in changes.items()
  }
  with pytest.raises(ArgumentError, match=message):
    train.run(small(**changes), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_network_of_the_package_is_a_source():
  """Its own config takes over all of its arrays."""
  config = from_dict(pretrained.card('mnist_1382')['config'], 'card')
  config.init_from = 'mnist_1382'
  experiment = Experiment(config, sizes={'input_shape': (28, 28, 1), 'num_classes': 10})
  assert experiment.transferred is not None
  named = pretrained.weights.named(pretrained.load('mnist_1382'))
  assert (
    experiment.transferred.said == f'init_from=mnist_1382: all {len(named)} arrays are taken over'
  )
  for name, array in named.items():
    np.testing.assert_array_equal(experiment.transferred.arrays[name], array)
