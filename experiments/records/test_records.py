"""Stacks as text, splits that never see the test images, and what counts as a record."""

import re

import pytest

from experiments.records import notation, table
from experiments.reproduce.rows import ROWS
from experiments.results import Trial


def test_the_search_trains_its_best_trials_longer(load):
  search = load('experiments.records.__main__')
  accuracies = {
    ('mnist', 0): 0.97,
    ('mnist', 1): 0.98,
    ('mnist', 'by hand'): 0.99,
    ('mnist', 2): 0.975,
    ('mnist', 9): 0.99,
    ('fashion_mnist', 0): 0.999,
  }
  results = [
    {'task': task, 'trial': trial, 'accuracy': accuracy}
    for (task, trial), accuracy in accuracies.items()
  ]
  assert search.best(results, 'mnist', trials=5, count=2) == [1, 2]
  trial = Trial('configs/mnist.py', 0, {'total_epochs': 8, 'batch_size': 32})
  assert search.longer(trial).changes == {'total_epochs': 40, 'batch_size': 32}
  assert trial.changes['total_epochs'] == 8


def test_a_drawn_network_is_just_below_the_record(load):
  search = load('experiments.records.__main__')
  trial = search.draw('fashion_mnist', 0)
  assert trial == search.draw('fashion_mnist', 0)
  experiment = search.Experiment(trial.load(), sizes=search.IMAGES)
  assert 1665 <= search.parameters(experiment) < 1850
  assert trial.load().data.eval_split == 'train[55000:]'


def test_the_notation_of_stacks():
  text = 's40x5/2 a d p48 P3/2 d2 p8 s3x1 dS p8 =8 dS4 P4 s9x3v/2+4^2.5 d2x4v^0.9 p8+0.1 p8+1e-05 h'
  stack = notation.parse(text)
  assert notation.describe(stack) == text
  assert stack[0] == {'kind': 'scs', 'features': 40, 'window': 5, 'strides': 2}
  assert stack[4] == {'kind': 'pool', 'window': 3, 'strides': 2}
  assert stack[8] == {'kind': 'depthwise', 'share_kernels': True}
  assert stack[11] == {'kind': 'depthwise', 'share_kernels': True, 'multiplier': 4}
  assert stack[10] == {'kind': 'again', 'layer': 8}
  assert stack[13] == {
    'kind': 'scs',
    'features': 9,
    'window': 3,
    'strides': 2,
    'padding': 'VALID',
    'q_init': 4.0,
    'p_init': 2.5,
  }
  assert stack[14] == {
    'kind': 'depthwise',
    'multiplier': 2,
    'window': 4,
    'padding': 'VALID',
    'p_init': 0.9,
  }
  for wrong in ('s8', 'd0.5', 'pool', 'P', '8', 'dS-1', '=', 'P2^2', 'a+1', 'd+', 'p8^2+1', 'dxv'):
    with pytest.raises(ValueError, match=re.escape(f'a stack has {wrong!r}')):
      notation.parse(f'd {wrong} h')


@pytest.mark.parametrize('key', ['seed', 'data.train_split', 'data.eval_split'])
def test_what_is_tried_by_hand_never_sees_the_test_images(key, load):
  attempt = load('experiments.records.attempt')
  parse = attempt.absl_flags.FLAGS
  words = ['attempt', '--name=n', '--config=configs/mnist.py', '--workdir=w']
  parse(words)
  tried = attempt.trial().load()
  assert tried.data.train_split == 'train[:55000]'
  assert tried.data.eval_split == 'train[55000:]'
  parse([*words, f'--change={key}=1'])
  with pytest.raises(ValueError, match=f'--change={key}=…'):
    attempt.trial()


def test_a_record_is_a_median_of_five_seeds_at_the_bar():
  def lines(name, accuracies):
    row = ROWS[name]
    return [
      {'config': row.config, 'changes': dict(row.changes), 'seed': seed, 'accuracy': accuracy}
      for seed, accuracy in enumerate(accuracies)
    ]

  def cells(*runs):
    found = table.records([line for run in runs for line in lines(*run)]).splitlines()
    return next(line for line in found if line.startswith('| MNIST')).split(' | ')[3:]

  best_of_five = ('mnist_881', (0.98, 0.98, 0.991, 0.992, 0.99))
  assert cells(best_of_five)[0] == '881 parameters, 99.00% (median, n = 5)'
  missed, short = ('mnist_883', (0.98, 0.98, 0.991, 0.992, 0.9899)), ('mnist_881', (0.991,) * 4)
  passed, below = cells(missed, short)
  assert passed == 'none'
  assert below == '881 parameters, 99.10% (median, n = 4 of 5) |'
  assert cells(('mnist_881', (0.991,)))[1] == '881 parameters, 99.10% (one run) |'


def test_the_recipe_says_what_two_trials_differ_in():
  load_config = lambda file, argument: Trial(f'configs/{file}.py:{argument}', 0).load()
  recipe = notation.recipe
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
