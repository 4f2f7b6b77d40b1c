"""The digits: what is tested is never trained on, and looks like MNIST."""

import numpy as np

from experiments.finetune.digits import CLASSES, TESTED, load


def rows(examples):
  return {image.tobytes() for image in examples.images}


def test_training_and_test_images_differ():
  (training, testing), (few, same) = load(None, 0), load(10, 1)
  assert training.size + testing.size == 1797
  assert np.bincount(testing.labels).tolist() == [TESTED] * CLASSES
  assert np.bincount(few.labels).tolist() == [10] * CLASSES
  assert rows(testing) == rows(same)
  assert not rows(training) & rows(testing)
  assert rows(few) < rows(training)
  assert rows(few) != rows(load(10, 2)[0])


def test_images_are_those_of_mnist_in_size_and_range():
  training, _ = load(None, 0)
  assert training.image_shape == (28, 28, 1)
  assert training.images.max() == 255
  assert not training.images[:, :4].any()
  assert not training.images[:, :, -4:].any()
