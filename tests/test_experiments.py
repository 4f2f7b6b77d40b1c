"""Every script of experiments/ still finds what it imports, and its small parts do what they say."""

import re
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from config_files import FOLDER, load_config
from flax import nnx
from scipy import stats

from scs_jax import train
from scs_jax.data import Examples

EXPERIMENTS = FOLDER.parent / 'experiments'
SCRIPTS = [str(p.relative_to(EXPERIMENTS)) for p in sorted(EXPERIMENTS.glob('*/*.py'))]


@pytest.fixture
def load(monkeypatch):
  """Runs a script as a module, with its folder on the path; forgets its modules and flags again."""
  before, known = set(sys.modules), set(flags.FLAGS)
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')  # some scripts set these for themselves
  monkeypatch.setenv('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')

  def load(script):
    path = EXPERIMENTS / script
    monkeypatch.setattr(sys, 'path', [str(path.parent), *sys.path])  # as for python PATH
    return runpy.run_path(str(path), run_name='imported')

  yield load
  for name in set(flags.FLAGS) - known:
    delattr(flags.FLAGS, name)
  for name in set(sys.modules) - before:
    if str(EXPERIMENTS) in (getattr(sys.modules[name], '__file__', None) or ''):
      del sys.modules[name]  # two folders have a run.py


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_import_what_is_there(script, load):
  try:
    load(script)
  except ImportError as error:
    if error.name == 'torch':
      pytest.skip('needs torch')
    raise


def test_the_search_trains_its_best_trials_longer(load):
  search = load('records/search.py')
  accuracies = {('mnist', 0): 0.97, ('mnist', 1): 0.98, ('mnist', 'by hand'): 0.99,
                ('mnist', 2): 0.975, ('mnist', 9): 0.99, ('fashion_mnist', 0): 0.999}  # fmt: skip
  results = [
    {'task': task, 'trial': trial, 'accuracy': accuracy}
    for (task, trial), accuracy in accuracies.items()
  ]
  assert search['best'](results, 'mnist', trials=5, count=2) == [1, 2]
  trial = search['Trial']('configs/mnist.py', 0, {'total_epochs': 8, 'batch_size': 32})
  assert search['longer'](trial).changes == {'total_epochs': 40, 'batch_size': 32}
  assert trial.changes['total_epochs'] == 8


def test_the_notation_of_stacks():
  notation = runpy.run_path(str(EXPERIMENTS / 'records' / 'notation.py'))
  text = 's40x5/2 a d p48 P3/2 d2 p8 s3x1 dS p8 =8 dS4 P4 s9x3v/2+4^2.5 d2x4v^0.9 p8+0.1 p8+1e-05 h'
  stack = notation['parse'](text)
  assert notation['describe'](stack) == text
  assert stack[0] == {'kind': 'scs', 'features': 40, 'window': 5, 'strides': 2}
  assert stack[4] == {'kind': 'pool', 'window': 3, 'strides': 2}
  assert stack[8] == {'kind': 'depthwise', 'share_kernels': True}
  assert stack[11] == {'kind': 'depthwise', 'share_kernels': True, 'multiplier': 4}
  assert stack[10] == {'kind': 'again', 'layer': 8}
  assert stack[13] == {
    'kind': 'scs', 'features': 9, 'window': 3, 'strides': 2, 'padding': 'VALID',
    'q_init': 4.0, 'p_init': 2.5,
  }  # fmt: skip
  assert stack[14] == {
    'kind': 'depthwise', 'multiplier': 2, 'window': 4, 'padding': 'VALID', 'p_init': 0.9
  }  # fmt: skip
  for wrong in ('s8', 'd0.5', 'pool', 'P', '8', 'dS-1', '=', 'P2^2', 'a+1', 'd+', 'p8^2+1', 'dxv'):
    with pytest.raises(ValueError, match=re.escape(f'a stack has {wrong!r}')):
      notation['parse'](f'd {wrong} h')


@pytest.mark.parametrize(
  ('first', 'end', 'said'),
  [
    (
      2,
      2,
      '--first_seed=2 and --seeds=2: no seed is from 2 on and below 2; .* for one seed it is 3',
    ),
    (
      3,
      1,
      '--first_seed=3 and --seeds=1: no seed is from 3 on and below 1; .* for one seed it is 4',
    ),
    (
      0,
      0,
      '--first_seed=0 and --seeds=0: no seed is from 0 on and below 0; .* for one seed it is 1',
    ),
    (-1, 2, '--first_seed=-1: seeds begin at 0'),
  ],
)
def test_no_seed_is_an_error(first, end, said, load):
  seeds = load('results.py')['seeds']
  assert list(seeds(2, 4)) == [2, 3]
  with pytest.raises(ValueError, match=said):
    seeds(first, end)


@pytest.mark.parametrize('key', ['seed', 'data.train_split', 'data.eval_split'])
def test_what_is_tried_by_hand_never_sees_the_test_images(key, load):
  attempt = load('records/attempt.py')
  words = ['attempt.py', '--name=n', '--config=configs/mnist.py', '--workdir=w']
  flags.FLAGS(words)
  tried = attempt['trial']().load()
  assert tried.data.train_split == 'train[:55000]'
  assert tried.data.eval_split == 'train[55000:]'
  flags.FLAGS([*words, f'--change={key}=1'])
  with pytest.raises(ValueError, match=f'--change={key}=…'):
    attempt['trial']()


def test_intervals_are_those_of_student(load):
  mean, half = load('claims/table.py')['interval']([1.0, 2.0, 4.0, 1.5])
  expected = stats.ttest_1samp([1.0, 2.0, 4.0, 1.5], 0).confidence_interval(0.95)
  np.testing.assert_allclose((mean - half, mean + half), expected)


def test_claims_are_compared_seed_by_seed_with_their_own_base(load):
  names = load('claims/table.py')
  accuracies = {  # by variant; None: diverged. Seed 2 of the variant has no base to compare it with.
    'SCS': {0: 0.8, 1: 0.9},
    'conv + ReLU': {0: 0.1, 1: 0.1},
    'SCS: input × 255': {0: 0.79, 1: 0.87, 2: 0.1},
    'SCS: max pool': {0: None},
    'SCS: average pool': {7: 0.5},
  }
  results = [
    {'data': 'cifar10', 'variant': name, 'seed': seed, 'accuracy': accuracy,
     'changes': names['changes']('cifar10', *names['comparisons']('cifar10')[name])}
    for name, seeds in accuracies.items()
    for seed, accuracy in seeds.items()
  ]  # fmt: skip
  lines = names['table'](results, 'cifar10').splitlines()
  assert '| **SCS** | 85.00 % | 2 | | |' in lines
  assert '| SCS: input × 255 | 58.67 % | 3 (2 pairs) | -2.00 | -14.71 … +10.71 |' in lines
  assert '| SCS: max pool | diverged | 1 | | |' in lines
  assert '| SCS: average pool | 50.00 % | 1 | its base was not run | |' in lines


def test_a_record_is_a_median_of_five_seeds_at_the_bar(load):
  names = load('records/table.py')
  rows = load('reproduce/rows.py')['ROWS']

  def lines(name, accuracies):
    row = rows[name]
    return [
      {'config': row.config, 'changes': dict(row.changes), 'seed': seed, 'accuracy': accuracy}
      for seed, accuracy in enumerate(accuracies)
    ]

  def cells(*runs):
    found = names['records']([line for run in runs for line in lines(*run)]).splitlines()
    return next(line for line in found if line.startswith('| MNIST')).split(' | ')[3:]

  best_of_five = ('mnist_881', (0.98, 0.98, 0.991, 0.992, 0.99))
  assert cells(best_of_five)[0] == '881 parameters, 99.00% (median, n = 5)'
  missed, short = ('mnist_883', (0.98, 0.98, 0.991, 0.992, 0.9899)), ('mnist_881', (0.991,) * 4)
  passed, below = cells(missed, short)
  assert passed == 'none'
  assert below == '881 parameters, 99.10% (median, n = 4 of 5) |'


def test_attacks_climb_and_stay_within_their_bounds(load):
  names = load('claims/robustness.py')
  x = jax.random.uniform(jax.random.key(0), (64, 2, 2, 1), minval=0.4, maxval=0.6)
  flat = lambda x: x.reshape(len(x), -1).sum(1)
  model = lambda x: jnp.stack([10 * flat(x), jnp.full(len(x), 20.0)], -1)
  labels = model(x).argmax(-1)
  for norm, size in (('linf', 0.1), ('l2', 0.2)):
    for steps in (1, 5):
      worst, losses = names['attack'](
        model, x, labels, jax.random.key(1), norm=norm, size=size, steps=steps, restarts=2
      )
      change = (worst - x).reshape(len(x), -1)
      length = jnp.linalg.norm(change, jnp.inf if norm == 'linf' else 2, axis=1)
      np.testing.assert_array_less(length, size * 1.0001)
      assert (worst >= 0).all()
      assert (worst <= 1).all()
      assert losses[-1] > losses[0]
      assert (model(worst).argmax(-1) == labels).mean() < 0.7


def test_only_images_that_both_networks_classify_right_are_attacked(load):
  x = jnp.array([0.2, 0.4, 0.6, 0.8]).reshape(4, 1, 1, 1)
  below, above = (  # what is of class 0
    lambda x: jnp.stack([0.5 - x[:, 0, 0, 0], jnp.zeros(len(x))], -1),
    lambda x: jnp.stack([x[:, 0, 0, 0] - 0.3, jnp.zeros(len(x))], -1),
  )
  pair = {'below': below, 'above': above}
  shares, _ = load('claims/robustness.py')['measure'](pair, x, jnp.zeros(4, int), jax.random.key(0))
  assert shares['all test images'] == {'below': 0.5, 'above': 0.75}
  assert shares['check: noise of ℓ∞ 4/255'] == {'below': 1.0, 'above': 1.0}  # of 0.4 alone
  assert shares['check: PGD without a bound'] == {'below': 0.0, 'above': 0.0}


def test_the_recipe_says_what_two_trials_differ_in():
  recipe = runpy.run_path(str(EXPERIMENTS / 'records' / 'notation.py'))['recipe']
  config = load_config('mnist', 'separable')
  words = recipe(config)['recipe']
  assert words.endswith('rotate 5, translate 0.03')
  config.augment.update(scale=(0.9, 1.1), cutout=6)
  config.label_smoothing = 0.05
  more = ', cutout 6, size 0.9 to 1.1, labels smoothed by 0.05'
  assert recipe(config)['recipe'] == words + more
  assert recipe(load_config('cifar10', 'convmixer256_8')) == {
    'network': 'convmixer, depth 8, patch 2, width 256, window 5',
    'recipe': 'q 0.001, p from 1.25, output unit, batch 128, rate 0.002, shift 4, EMA 0.999, flips',
  }
  assert 'EMA' not in recipe(load_config('cifar10', ''))['recipe']  # it has none


def test_an_image_and_its_mirror_image_vote_together(load):
  """A network that looks for brightness on the left alone is right about one of the two."""
  images = np.zeros((3, 2, 4, 1), np.uint8)
  images[0, :, 0], images[1, :, 3] = 200, 200
  left = lambda x, train: jnp.stack([x[:, :, :2].sum((1, 2, 3)), jnp.full(len(x), 0.5)], -1)
  examples = Examples(images, np.array([0, 0, 1], np.int32), 2)
  assert load('reproduce/mirrored.py')['accuracy'](left, examples) == 1.0
  assert (left(images / 255, train=False).argmax(-1) == examples.labels).mean() < 1


def test_one_program_trains_as_the_loop_does(load, monkeypatch, tmp_path):
  """Order, augmentation, schedule and average included; the loop's eight devices round otherwise."""
  run = load('reproduce/on_device.py')['run']
  changes = {'data.name': 'fake', 'total_epochs': 1.1, 'batch_size': 32, 'ema_decay': 0.9,
             'augment.flip': True, 'augment.shift': 2, 'augment.cutout': 4}  # fmt: skip
  trial = sys.modules['results'].Trial('configs/gallery.py:mnist_smoke', 3, changes)
  config, home = trial.load(), tmp_path / 'one'
  line = run(trial, home)
  loop = train.train_and_evaluate(config, str(tmp_path / 'loop'))
  evaluated = train.evaluate_checkpoint(config, str(home))
  assert evaluated == {
    'step': 18,
    'val/accuracy': line['accuracy'],
    'val/loss': pytest.approx(loop['val/loss'], 1e-4),
  }
  one, other = (
    nnx.to_pure_dict(nnx.state(train.trained_model(config, str(path)), nnx.Param))
    for path in (home, tmp_path / 'loop')
  )
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), one, other)
  with pytest.raises(SystemExit, match='holds a checkpoint'):
    run(trial, home)
  # A process that was stopped before it wrote its line finds what it trained.
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # set already, see conftest.py
  again = sys.modules['results'].run(trial, home)
  assert (again['accuracy'], again['images_per_second']) == (
    line['accuracy'],
    line['images_per_second'],
  )


def test_a_row_shows_what_it_measures(load):
  rows = load('reproduce/rows.py')
  row = rows['Row']('claim', 'gallery', 0.9, 7, 'configs/mnist.py', 2, measure='mirrored_accuracy')
  line = {'config': 'configs/mnist.py', 'changes': {}, 'accuracy': 0.5}
  results = [{**line, 'seed': 0}, {**line, 'seed': 1, 'mirrored_accuracy': 0.75}]
  assert [found['accuracy'] for found in rows['lines_of'](row, results)] == [0.75]
