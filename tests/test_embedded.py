"""The data sets that need no download."""

import hashlib

import numpy as np

from scs_jax import data


def test_mnist5k_is_the_golden_split():
  digests = {}
  for split, size in (('train', 4000), ('test', 1000)):
    examples = data.load('mnist5k', split)
    assert examples.images.shape == (size, 28, 28, 1)
    assert np.bincount(examples.labels).tolist() == [size // 10] * 10
    digests[split] = hashlib.sha256(
      examples.images.tobytes() + examples.labels.tobytes()
    ).hexdigest()
  assert digests == {
    'train': '8ad0f70df784aa043dbaeb46a923b95a85ec818b5e3fa86473019531f809ebc3',
    'test': '7ac298176aa70b5094567ee2e69b4fda96a8952ae40604fb7b83a9dc0c86be82',
  }


def test_every_slice_of_mnist5k_is_stratified():
  for split in ('train[:90%]', 'train[90%:]', 'train[:1000]', 'train+test'):
    counts = np.bincount(data.load('mnist5k', split).labels)
    assert counts.min() == counts.max()


def test_fake_is_the_same_every_time_and_learnable():
  train, again, test = (data.load('fake', s) for s in ('train', 'train', 'test'))
  assert train.images.shape == (512, 32, 32, 3)
  assert test.images.shape == (100, 32, 32, 3)
  np.testing.assert_array_equal(train.images, again.images)
  mean = np.stack([train.images[train.labels == c].mean(0) for c in range(10)])
  distance = ((test.images[:, None] - mean) ** 2).sum((2, 3, 4))
  np.testing.assert_array_equal(distance.argmin(1), test.labels)
  assert not (test.images[:, None] == train.images[None, :100]).all((2, 3, 4)).any()
