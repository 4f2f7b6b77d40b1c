"""The type of a data set in memory."""

import numpy as np
import pytest
from tiny import CLASSES, SHAPE

from scs_jax.data import Examples


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'images': np.zeros((2, 4, 5), np.uint8)}, r'images must be uint8.*\(2, 4, 5\)'),
    ({'images': np.zeros((2, *SHAPE))}, 'images must be uint8.*float64'),
    ({'images': [[[[0]]]]}, 'images must be uint8.*got list, which is not a NumPy array'),
    ({'labels': [0, 1]}, 'labels must be int32.*got list, which is not a NumPy array'),
    ({'labels': np.zeros(3, np.int32)}, r'labels must be int32.*\(3,\)'),
    ({'labels': np.zeros(2)}, 'labels must be int32.*float64'),
    ({'labels': np.array([0, CLASSES], np.int32)}, r'num_classes=3.*labels\[1\]=3'),
    ({'labels': np.array([0, -1])}, r'num_classes=3.*labels\[1\]=-1'),
    ({'images': np.zeros((2, 0, 5, 1), np.uint8)}, r'images has shape \(2, 0, 5, 1\).*one pixel'),
    ({'class_names': ['a', 'b']}, r'class_names must be 3 different strings.*got .*a.*b'),
    ({'class_names': ['a', 'b', 'b']}, 'class_names must be 3 different strings'),
    ({'class_names': 'abc'}, 'class_names must be 3 different strings'),
    ({'class_names': [0, 1, 2]}, 'class_names must be 3 different strings'),
    (
      {'images': np.zeros((0, *SHAPE), np.uint8), 'labels': np.zeros(0, np.int32)},
      r'images has shape \(0, .*at least one example',
    ),
  ],
)
def test_examples_are_checked(changes, message):
  good = {'images': np.zeros((2, *SHAPE), np.uint8), 'labels': np.zeros(2, np.int32)}
  with pytest.raises(ValueError, match=message):
    Examples(**(good | changes), num_classes=CLASSES)


@pytest.mark.parametrize('dtype', [np.int64, np.uint8, np.int32])
def test_labels_of_any_integer_type(dtype):
  images, labels = np.zeros((2, *SHAPE), np.uint8), np.array([0, 2], dtype)
  examples = Examples(images, labels)
  assert (examples.labels.dtype, examples.num_classes) == (np.int32, 3)
  assert Examples(images, labels, class_names=list('abcd')).num_classes == 4
  assert Examples(images, labels, class_names=list('abc')).class_names == ('a', 'b', 'c')
