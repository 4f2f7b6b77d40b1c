"""The tables count what was trained longest; a network is measured with its twin."""

import pytest

from experiments.zoo import table


def test_the_longest_run_on_the_test_images_is_shown():
  def line(epochs, accuracy, changes=None, config='configs/cifar10.py:resnet20', **more):
    base = {'config': config, 'evaluated_on': 'cifar10 test', 'changes': changes or {}}
    return {**base, 'epochs': epochs, 'accuracy': accuracy, **more}

  measured = [
    {
      'network': 'resnet20',
      'variant': variant,
      'parameters': 7,
      'flops': 2e6,
      'images_per_second': rate,
    }
    for variant, rate in (('scs', 1.0), ('conv', 5.0), ('scs', 4.0))
  ]
  cells = lambda *trained: table.architectures(measured, list(trained)).splitlines()[2:]
  assert cells() == ['| `resnet20` | 7 | 2 M | 4 | 5 | not measured |']  # the newest line counts
  full, wide = line(24.0, 0.88), line(99.0, 0.9, {'model.widths': [9, 9, 9]})
  short = line(3.0, 0.2, {'total_epochs': 3.0}, last_parameters={'accuracy': 0.58, 'loss': 1.0})
  elsewhere = line(99.0, 0.9, config='configs/cifar10.py:resnet56')
  assert cells(short, full, wide, elsewhere)[0].endswith('| 88.0 % (24 epochs) |')
  assert cells(short)[0].endswith('| 58.0 % (3 epochs, not averaged) |')


def test_a_network_without_accuracy_is_refused(load, tmp_path):
  accuracy = load('experiments.zoo.accuracy')
  words = ['accuracy', '--network=autoencoder', f'--workdir={tmp_path}']
  accuracy.absl_flags.FLAGS(words)
  with pytest.raises(ValueError, match='--network=autoencoder has no accuracy'):
    accuracy.main(words)


def test_a_network_is_measured(load, quick_compilation):
  measured = load('experiments.zoo.__main__').measure('three_layers', 'conv')
  assert measured['parameters'] == 113_962
  assert measured['flops'] > 1e7
  assert measured['images_per_second'] > 0
