"""Arrays of one's own in an npz file."""

import os
import pathlib
import pickle

import numpy as np
import pytest

from scs_jax import data
from scs_jax.errors import ArgumentError

IMAGES = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
LABELS = np.array([2, 0, 1, 2, 1, 0])
GOOD = {'images': IMAGES, 'labels': LABELS}


def load(folder, arrays, split='train', **more):
  np.savez(folder / 'own.npz', **arrays)
  return data.load(f'npz:{folder / "own.npz"}', split, **more)


def test_one_pair_of_arrays_is_the_split_train(tmp_path):
  examples = load(tmp_path, GOOD)
  np.testing.assert_array_equal(examples.images, IMAGES)
  np.testing.assert_array_equal(examples.labels, LABELS)
  assert (examples.labels.dtype, examples.num_classes) == (np.int32, 3)
  first, second = (load(tmp_path, GOOD, split) for split in ('train[:4]', 'train[4:]'))
  np.testing.assert_array_equal(second.images, IMAGES[4:])
  assert first.class_names is None


@pytest.mark.parametrize(
  'keys', [('{}_images', '{}_labels'), ('x_{}', 'y_{}')], ids=['MedMNIST', 'Keras']
)
def test_splits(tmp_path, keys):
  arrays = {}
  for split, count in (('train', 6), ('val', 2), ('test', 3)):
    arrays[keys[0].format(split)] = IMAGES[:count, :, :, 0]
    arrays[keys[1].format(split)] = LABELS[:count, None].astype(np.uint8)
  for split, count in (('train', 6), ('val', 2), ('test', 3), ('val+test', 5)):
    examples = load(tmp_path, arrays, split)
    assert examples.images.shape == (count, 4, 5, 1)
    assert examples.num_classes == 3


def test_slices_share_their_images(tmp_path):
  np.savez(tmp_path / 'own.npz', **GOOD)
  parts = [data.load(f'npz:{tmp_path}/own.npz', s) for s in ('train[:3]', 'train[3:]', 'train')]
  assert len({id(part.images.base) for part in parts}) == 1
  assert not parts[0].images.flags.writeable
  np.savez(tmp_path / 'own.npz', images=255 - IMAGES, labels=LABELS)
  assert (data.load(f'npz:{tmp_path}/own.npz', 'train').images == 255 - IMAGES).all()


@pytest.mark.parametrize('dtype', [np.float64, np.float32, np.float16, '>f4'])
def test_floating_point_images_go_from_0_to_1(tmp_path, dtype):
  values = (np.arange(256) / 255).reshape(4, 8, 8, 1).astype(dtype)
  examples = load(tmp_path, {'images': values, 'labels': np.array([1, 0, 0, 1])})
  np.testing.assert_array_equal(examples.images.ravel(), np.arange(256))


def test_names_of_classes(tmp_path):
  examples = load(tmp_path, {**GOOD, 'class_names': ['a', 'b', 'c', 'none here']})
  assert examples.class_names == ('a', 'b', 'c', 'none here')
  assert examples.num_classes == 4


def test_images_that_go_to_1_only_cost_a_line(tmp_path, caplog):
  load(tmp_path, {**GOOD, 'images': IMAGES % 2})
  assert 'goes to 1 only, which is nearly black' in caplog.text


def changed(**changes):
  return {key: value for key, value in (GOOD | changes).items() if value is not None}


objects = np.array([IMAGES[0], *[None] * 5], dtype=object)
WRONG = {
  'flat': (changed(images=IMAGES.reshape(6, -1)), r"'images' has the shape \(6, 60\): store"),
  'five axes': (changed(images=IMAGES[None]), r"'images' has the shape \(1, 6, 4, 5, 3\)"),
  'no axes': (changed(images=np.uint8(3)), r"'images' has the shape \(\)"),
  'no pixels': (changed(images=IMAGES[:, :0]), r"'images' has the shape \(6, 0, 5, 3\)"),
  'channels first': (changed(images=np.zeros((6, 3, 8, 8), np.uint8)), r'transpose\(0, 2, 3, 1\)'),
  'integers': (changed(images=IMAGES.astype(np.int64)), "'images' is int64: store uint8"),
  '16 bits': (changed(images=IMAGES.astype(np.uint16)), "'images' is uint16: store uint8"),
  'to 255': (changed(images=IMAGES / 1), "'images' goes from 0 to 255: store uint8, or divide"),
  'below 0': (changed(images=IMAGES / 255 - 0.5), "'images' goes from -0.5 to 0.5"),
  'nan': (changed(images=np.full((6, 4, 5), np.nan)), "'images' goes from nan to nan"),
  'objects': (changed(images=objects), 'type object, which is never unpickled'),
  'object labels': (changed(labels=LABELS.astype(object)), "'labels' is of type object, which is"),
  'object names': (changed(class_names=objects), "'class_names' is of type object, which is nev"),
  'few labels': (changed(labels=LABELS[:5]), "'labels' has 5 labels for 6 images"),
  'float labels': (changed(labels=LABELS / 1), "'labels' is float64 of shape .* store integers"),
  'one-hot labels': (changed(labels=np.eye(3, dtype=int)[LABELS]), r'labels\.argmax\(1\)'),
  'text labels': (changed(labels=np.array(list('abcabc'))), "'labels' is <U1 of shape"),
  'label below 0': (changed(labels=LABELS - 1), "'labels' has the label -1: labels count from 0"),
  'labels from 1': (changed(labels=LABELS + 1), "'labels' has the label 3 but no 0: labels count"),
  'a gap': (changed(labels=LABELS * 2), "'labels' has the label 4 but no 1"),
  'a huge label': (changed(labels=LABELS + 2**40), "'labels' has the label 1099511627778"),
  'sorted, sliced': (changed(labels=np.sort(LABELS)), "'labels' is sorted, .*: shuffle images"),
  'few names': (changed(class_names=['a', 'b']), 'label 2, but there are 2 class_names'),
  'the same name': (changed(class_names=['a', 'b', 'b']), "'class_names' has a name twice"),
  'names are bytes': (changed(class_names=np.array([b'a', b'b', b'c'])), r"'class_names' is \|S1"),
  'label of test': (
    changed(test_images=IMAGES, test_labels=LABELS + 1),
    "'test_labels' has the label 3, but there are 3 classes in train",
  ),
  'no labels': (changed(labels=None), r"has no \['labels'\]; its arrays are \['images'\]\. Name"),
  'no images': (changed(images=None), r"no images to train on; its arrays are \['labels'\]"),
  'none': ({}, r'no images to train on; its arrays are \[\]'),
}


@pytest.mark.parametrize('case', WRONG)
def test_arrays_that_cannot_work_are_named_in_one_line(tmp_path, case):
  arrays, message = WRONG[case]
  np.savez(tmp_path / 'own.npz', **arrays)
  split = 'train[:4]' if 'sliced' in case else 'train'
  with pytest.raises(ArgumentError, match=rf"data\.name='npz:.*own\.npz'.*{message}") as info:
    data.load(f'npz:{tmp_path}/own.npz', split)
  assert '\n' not in str(info.value)


def test_nothing_is_unpickled(tmp_path):
  class Harmful:
    def __reduce__(self):
      return pathlib.Path.touch, (tmp_path / 'harm',)

  np.savez(tmp_path / 'own.npz', images=np.array([Harmful()], dtype=object), labels=[0])
  (tmp_path / 'pickled.npz').write_bytes(pickle.dumps(Harmful()))
  for name in ('own', 'pickled'):
    with pytest.raises(ArgumentError):
      data.load(f'npz:{tmp_path}/{name}.npz', 'train')
  assert not (tmp_path / 'harm').exists()


def damaged(path):
  content = path.read_bytes()
  at = content.index(IMAGES[2].tobytes())
  return {
    'missing': (None, 'does not exist'),
    'empty': (b'', 'is damaged, or not a file that np.savez wrote'),
    'text': (b'images', 'is damaged, or not a file that np.savez wrote'),
    'cut off': (content[:-9], 'is damaged, or not a file that np.savez wrote'),
    'a flipped bit': (
      content[:at] + b'\xff' + content[at + 1 :],
      "array 'images' is damaged .*CRC",
    ),
  }


@pytest.mark.parametrize('case', ['missing', 'empty', 'text', 'cut off', 'a flipped bit'])
def test_files_that_cannot_be_read(tmp_path, case):
  path = tmp_path / 'own.npz'
  np.savez(path, **GOOD)
  content, message = damaged(path)[case]
  path.unlink() if content is None else path.write_bytes(content)
  with pytest.raises(ArgumentError, match=rf"data\.name='npz:.*own\.npz'.*{message}"):
    data.load(f'npz:{path}', 'train')


def test_every_damaged_byte_of_an_archive_is_found_or_harmless(tmp_path):
  path = tmp_path / 'own.npz'
  np.savez(path, **GOOD)
  whole, found = path.read_bytes(), 0
  for at in range(0, len(whole), 3):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x49]) + whole[at + 1 :])
    os.utime(path, ns=(at, at))  # another file, of which nothing is kept
    try:
      examples = data.load(f'npz:{path}', 'train')
    except ArgumentError:
      found += 1
    else:
      np.testing.assert_array_equal(examples.images, IMAGES)
      np.testing.assert_array_equal(examples.labels, LABELS)
  assert found > 100


def test_one_array_and_a_folder_are_no_files_of_savez(tmp_path):
  np.save(tmp_path / 'own.npy', IMAGES)
  with pytest.raises(ArgumentError, match=r'is one array: write images and labels into one file'):
    data.load(f'npz:{tmp_path}/own.npy', 'train')
  with pytest.raises(ArgumentError, match='is not a file'):
    data.load(f'npz:{tmp_path}', 'train')


def test_arrays_are_not_streamed(tmp_path):
  with pytest.raises(ArgumentError, match=r'is loaded into memory .* set data\.resolution=None'):
    load(tmp_path, GOOD, resolution=8)
  with pytest.raises(ArgumentError, match=r"data\.channels=1 is for 'folder:PATH' only"):
    load(tmp_path, GOOD, channels=1)
