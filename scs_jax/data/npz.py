"""One's own arrays: `npz:FILE`, as `np.savez` writes it.

| arrays | base splits |
|---|---|
| `train_images`, `train_labels`, `test_images`, `test_labels` | the words in front |
| `x_train`, `y_train`, `x_test`, `y_test` | the words behind |
| `images`, `labels` | 'train' alone: state slices, such as 'train[:80%]' |
| `class_names`, optional | the names of the classes, in the order of their labels |

One split must be 'train'. Slices are cut in the order of the file, so its classes must be mixed.

Images are `[n, height, width]` or `[n, height, width, channels]`: uint8, or floating-point from 0
to 1, of which `round(255 · x)` is kept. Labels are integers `[n]` or `[n, 1]` that count from 0.
Every label must have a name, if there are names. Otherwise the labels of `train` must have no gap,
and no other split may have a larger one.
"""

import os
import pathlib
import re
from typing import Any

import numpy as np
from absl import logging

from scs_jax.data import splits
from scs_jax.data.examples import Examples
from scs_jax.data.sharing import Whole, shared
from scs_jax.errors import ArgumentError

PREFIX = 'npz:'


def load(name: str, split: str) -> Examples:
  """Loads a split of an npz file.

  Args:
    name: `'npz:FILE'`.
    split: in the syntax of TFDS.

  Raises:
    ArgumentError: the file cannot be read, or an array cannot work; the message names it.
  """
  path = pathlib.Path(os.path.expanduser(name.removeprefix(PREFIX)))
  found = _stat(name, path)
  with _open(name, path) as arrays:
    keys = _keys(name, list(arrays.files))
    labels = {base: _labels(name, key, _read(name, arrays, key)) for base, (_, key) in keys.items()}
    names = _names(name, arrays)
    num_classes = _num_classes(name, labels, keys, names)
    lengths = {base: [len(of)] for base, of in labels.items()}
    for base, start, stop in splits.slices(name, split, lengths):
      _check_mixed(name, keys[base][1], labels[base], stop - start)

    def read(base: str) -> Whole:
      image_key, label_key = keys[base]

      def whole() -> Whole:
        images = _images(name, image_key, _read(name, arrays, image_key))
        if len(images) != len(labels[base]):
          raise _error(
            name,
            label_key,
            f'has {len(labels[base])} labels for {len(images)} images of {image_key!r}',
            'store one label for each image',
          )
        return Whole(images, labels[base])

      return shared((str(path.absolute()), found.st_mtime_ns, found.st_size, base), whole)

    return splits.cut(name, split, num_classes, lengths, read, names)


def _error(name: str, key: str, problem: str, remedy: str) -> ArgumentError:
  return ArgumentError(f'data.name={name!r}: the array {key!r} {problem}: {remedy}')


def _stat(name: str, path: pathlib.Path) -> Any:
  try:
    if not path.is_file():
      problem = 'is not a file' if path.exists() else 'does not exist'
      raise ArgumentError(
        f'data.name={name!r}: {str(path.absolute())!r} {problem}. Write the path of a file that '
        'np.savez wrote'
      )
    return path.stat()
  except OSError as error:
    raise ArgumentError(f'data.name={name!r} cannot be read: {error.strerror}') from error


def _open(name: str, path: pathlib.Path) -> Any:
  try:
    arrays = np.load(path, allow_pickle=False)
  except Exception as error:  # a damaged archive makes zipfile raise many classes
    raise ArgumentError(
      f'data.name={name!r} cannot be read: it is damaged, or not a file that np.savez wrote. Write '
      'it again'
    ) from error
  if isinstance(arrays, np.ndarray):
    raise ArgumentError(
      f'data.name={name!r} is one array: write images and labels into one file, by '
      'np.savez(FILE, images=images, labels=labels)'
    )
  return arrays


def _keys(name: str, files: list[str]) -> dict[str, tuple[str, str]]:
  """Returns the keys of images and labels by base split."""
  keys = {}
  for pattern, images, labels in (
    (r'(\w+)_images', '{}_images', '{}_labels'),
    (r'x_(\w+)', 'x_{}', 'y_{}'),
  ):
    bases = [match[1] for file in files if (match := re.fullmatch(pattern, file))]
    keys |= {base: (images.format(base), labels.format(base)) for base in bases}
  if 'images' in files:
    keys['train'] = ('images', 'labels')
  missing = sorted({key for pair in keys.values() for key in pair} - set(files))
  if 'train' not in keys or missing:
    problem = f'no {missing}' if missing else 'no images to train on'
    raise ArgumentError(
      f'data.name={name!r} has {problem}; its arrays are {sorted(files)}. Name them images and '
      'labels, or train_images, train_labels, test_images and test_labels'
    )
  return keys


def _read(name: str, arrays: Any, key: str) -> np.ndarray:
  try:
    array = arrays[key]
  except Exception as error:  # likewise
    if 'pickle' in str(error):
      problem = 'is of type object, which is never unpickled because that can run code'
      remedy = 'store numbers or strings, and images of one size'
      raise _error(name, key, problem, remedy) from error
    raise _error(name, key, f'is damaged ({error})', 'write the file again') from error
  if not isinstance(array, np.ndarray):  # np.load returns other members of the archive as bytes
    raise _error(name, key, 'is no array', 'write the file with np.savez')
  return array


def _labels(name: str, key: str, labels: np.ndarray) -> np.ndarray:
  """Returns labels `[n]` int32, at least 0."""
  if labels.ndim == 2 and labels.shape[1] == 1:
    labels = labels[:, 0]
  if labels.ndim != 1 or labels.dtype.kind not in 'iu':
    raise _error(
      name,
      key,
      f'is {labels.dtype} of shape {labels.shape}',
      'store integers of shape [n], one for each image. From one-hot rows: labels.argmax(1)',
    )
  if len(labels) and (labels.min() < 0 or labels.max() >= 2**31):
    wrong = labels.min() if labels.min() < 0 else labels.max()
    raise _error(name, key, f'has the label {wrong}', 'labels count from 0')
  return labels.astype(np.int32)


def _names(name: str, arrays: Any) -> tuple[str, ...] | None:
  if 'class_names' not in arrays.files:
    return None
  names = _read(name, arrays, 'class_names')
  if names.ndim != 1 or names.dtype.kind != 'U':
    raise _error(
      name,
      'class_names',
      f'is {names.dtype} of shape {names.shape}',
      "store a list of strings, such as ['cat', 'dog']",
    )
  if len(set(names.tolist())) < len(names):
    raise _error(name, 'class_names', 'has a name twice', 'give each class a name of its own')
  return tuple(names.tolist())


def _num_classes(
  name: str,
  labels: dict[str, np.ndarray],
  keys: dict[str, tuple[str, str]],
  names: tuple[str, ...] | None,
) -> int:
  """Returns the number of classes, which all labels must fit."""
  if not len(labels['train']):
    raise _error(name, keys['train'][1], 'is empty', 'store at least one example')
  used = np.unique(labels['train'])
  count = len(names) if names is not None else int(used[-1]) + 1
  if names is None and len(used) < count:
    unused = next(label for label, found in enumerate(used) if label != found)
    raise _error(
      name,
      keys['train'][1],
      f'has the label {used[-1]} but no {unused}',
      'labels count from 0 without a gap, unless class_names names every class',
    )
  for base, of in labels.items():
    if len(of) and of.max() >= count:
      what = f'{len(names)} class_names' if names is not None else f'{count} classes in train'
      problem = f'has the label {of.max()}, but there are {what}'
      raise _error(name, keys[base][1], problem, 'labels count from 0, and each class has a name')
  return count


def _check_mixed(name: str, key: str, labels: np.ndarray, count: int) -> None:
  """Raises ArgumentError if a slice of `count` labels would have other classes than the rest."""
  if count < len(labels) and labels[0] < labels[-1] and (np.diff(labels) >= 0).all():
    problem = 'is sorted, so that a slice has other classes than the rest'
    raise _error(name, key, problem, 'shuffle images and labels in the same order')


def _images(name: str, key: str, images: np.ndarray) -> np.ndarray:
  """Returns images `[n, height, width, channels]` uint8."""
  shape = images.shape
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or not images.size:
    raise _error(
      name,
      key,
      f'has the shape {shape}',
      'store [n, height, width] or [n, height, width, channels]',
    )
  if images.shape[1] in (1, 3) and images.shape[3] > 4:
    remedy = 'put the channels last, by images.transpose(0, 2, 3, 1)'
    raise _error(name, key, f'has the shape {shape}, which looks like channels first', remedy)
  if images.dtype == np.uint8:
    if images.max() == 1:
      logging.warning(
        'data.name=%r: the array %r goes to 1 only, which is nearly black. If 1 is white, multiply '
        'by 255',
        name,
        key,
      )
    return images
  if not np.issubdtype(images.dtype, np.floating):
    remedy = 'store uint8, or floating-point from 0 to 1'
    raise _error(name, key, f'is {images.dtype}', remedy)
  low, high = images.min(), images.max()
  if not (low >= 0 and high <= 1):  # NaN is neither
    remedy = 'store uint8, or divide so that floating-point images go from 0 to 1'
    raise _error(name, key, f'goes from {low:g} to {high:g}', remedy)
  return np.round(images * 255).astype(np.uint8)
