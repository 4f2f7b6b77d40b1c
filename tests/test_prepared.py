"""Data sets that TFDS has prepared, and splits in its syntax."""

import gc
import json
import pathlib
import sys
import weakref

import kinds
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tiny import CLASSES, SHAPE, brightness, encoded, features, pictures, prepare

from scs_jax import data
from scs_jax.data import images, prepared


@pytest.fixture
def tiny(tmp_path) -> dict[str, str]:
  data_dir = tmp_path / 'prepared'
  prepare(data_dir, features(), {'train': pictures(10), 'test': pictures(4, first=100)})
  return {'data_dir': str(data_dir), 'cache_dir': str(tmp_path / 'cache')}


@pytest.mark.parametrize(
  ('split', 'expected'),
  [
    ('train', range(10)),
    ('train[:90%]', range(9)),
    ('train[90%:]', [9]),
    ('train[:3]', range(3)),
    ('train[-2:]', [8, 9]),
    ('train[25%:75%]', range(2, 8)),  # 2.5 and 7.5 round to even
    ('train[:2]+test[1:2]', [0, 1, 101]),
    ('train[9:]+train[:1]', [9, 0]),
    ('train+test', [*range(10), *range(100, 104)]),
    ('all', [*range(10), *range(100, 104)]),
    ('train[:0]+test', range(100, 104)),
  ],
)
def test_slices(tiny, split, expected):
  examples = data.load('tiny', split, **tiny)
  assert brightness(examples) == list(expected)
  assert examples.labels.tolist() == [value % 100 % CLASSES for value in expected]


def test_slices_are_cut_where_tfds_cuts_them(tiny):
  builder = tfds.builder('tiny', data_dir=tiny['data_dir'])
  for percent in range(1, 100, 7):
    for split in (f'train[:{percent}%]', f'train[-{percent}%:]', f'train[{percent}%:]'):
      count = builder.info.splits[split].num_examples
      if count:
        assert len(data.load('tiny', split, **tiny).labels) == count


@pytest.mark.parametrize('name', ['tiny', 'fake', 'mnist5k'])
@pytest.mark.parametrize('split', ['valid', 'train[', 'train[::2]', 'train[:99999]', '', 'all[:3]'])
def test_unreadable_split(tiny, name, split):
  with pytest.raises(
    ValueError, match=r"(?s)split='.*the data set '.*'train': .*'test': .*TFDS"
  ) as info:
    data.load(name, split, **tiny)
  assert repr(split) in str(info.value)


@pytest.mark.parametrize('split', ['train[:0]', 'train[5:5]', 'train[7:5]', 'train[:1%]'])
def test_empty_split(tiny, split):
  with pytest.raises(ValueError, match=r"split='train.*'tiny' is empty.*'train': 10.*at least one"):
    data.load('tiny', split, **tiny)


def test_grayscale_colour_and_class_count(tiny, tmp_path):
  gray = data.load('tiny', 'train', **tiny)
  assert (gray.images.shape, gray.images.dtype) == ((10, *SHAPE), np.uint8)
  assert (gray.labels.dtype, gray.num_classes) == (np.int32, CLASSES)
  colour = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
  image = tfds.features.Image(shape=colour.shape, encoding_format='png')
  prepare(tmp_path / 'colour', features(image=image), {'train': [(colour, 2)]})
  loaded = data.load('tiny', 'train', data_dir=str(tmp_path / 'colour'), cache_dir=str(tmp_path))
  np.testing.assert_array_equal(loaded.images, colour[None])


def test_decoding_in_several_chunks(tiny, monkeypatch):
  monkeypatch.setattr(prepared, 'DECODE_CHUNK', 3)
  assert brightness(data.load('tiny', 'train', **tiny)) == list(range(10))


def test_tensorflow_is_not_needed(tiny, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)  # importing it raises
  assert brightness(data.load('tiny', 'train[:50%]', **tiny)) == list(range(5))


def test_not_prepared(tmp_path):
  with pytest.raises(ValueError, match="name='cifar10' is not prepared in") as info:
    data.load('cifar10', 'train', data_dir=str(tmp_path), cache_dir=str(tmp_path))
  message = str(info.value)
  assert "pip install 'scs-jax[prepare]'" in message
  assert f'tfds build cifar10 --file_format=array_record --data_dir={tmp_path}' in message
  assert "'mnist5k'" in message


def test_prepared_in_a_format_that_needs_tensorflow(tiny):
  path = pathlib.Path(tiny['data_dir'], 'tiny', '1.0.0', 'dataset_info.json')
  path.write_text(json.dumps(json.loads(path.read_text()) | {'fileFormat': 'tfrecord'}))
  for file in path.parent.glob('*.array_record-*'):
    file.rename(str(file).replace('array_record', 'tfrecord'))
  with pytest.raises(
    ValueError, match=r"name='tiny'.*prepared as tfrecord.*file_format=array_record"
  ):
    data.load('tiny', 'train', **tiny)


def test_missing_record_file(tiny):
  next(pathlib.Path(tiny['data_dir']).rglob('tiny-train*')).unlink()
  with pytest.raises(ValueError, match=r'misses its file .*tiny-train.*prepare again'):
    data.load('tiny', 'train', **tiny)


@pytest.mark.parametrize(
  ('name', 'near'),
  [('cifra10', 'cifar10'), ('mnst5k', 'mnist5k'), ('fashion_mnst:3.0.1', 'fashion_mnist')],
)
def test_unknown_name(tmp_path, name, near):
  with pytest.raises(ValueError, match=f"name='{name}' is not a known data set.*'{near}'"):
    data.load(name, 'train', data_dir=str(tmp_path))


@pytest.mark.parametrize('name', ['../mnist', 'mnist:9.9.9', 'mnist/nonsense', ''])
def test_refused_name(tmp_path, name):
  with pytest.raises(ValueError, match=f"TFDS refuses data.name='{name}'.*NAME:VERSION"):
    data.load(name, 'train', data_dir=str(tmp_path))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'label': None}, "name='tiny' has no feature 'label' of type ClassLabel"),
    (
      {'label': tfds.features.Scalar(np.int64)},
      "name='tiny' has no feature 'label' of type ClassL",
    ),
    ({'image': None}, "name='tiny' has no feature 'image' of type Image"),
    (
      {'image': tfds.features.Image(shape=SHAPE, dtype=np.uint16, encoding_format='png')},
      "name='tiny' has images of type uint16",
    ),
  ],
)
def test_wrong_features(tmp_path, changes, message):
  rows = pictures(2)
  if getattr(changes.get('image'), 'np_dtype', None) == np.uint16:
    rows = [(image.astype(np.uint16), label) for image, label in rows]
  prepare(tmp_path, features(**changes), {'train': rows})
  with pytest.raises(ValueError, match=message):
    data.load('tiny', 'train', data_dir=str(tmp_path), cache_dir=str(tmp_path))


def test_images_of_different_sizes(tmp_path):
  image = tfds.features.Image(shape=(None, None, 1), encoding_format='png')
  rows = [*pictures(2), (np.zeros((6, 6, 1), np.uint8), 0)]
  prepare(tmp_path, features(image=image), {'train': rows, 'test': rows[:2]})
  where = {'data_dir': str(tmp_path), 'cache_dir': str(tmp_path)}
  with pytest.raises(
    ValueError, match=r"'tiny' has images of different sizes, \(4, 5, 1\) and \(6, "
  ):
    data.load('tiny', 'train', **where)
  assert data.load('tiny', 'test', **where).images.shape == (2, *SHAPE)


@pytest.mark.parametrize('resolution', [None, 4])
def test_label_outside_the_classes(tmp_path, resolution):
  prepare(tmp_path, features(), {'test': [*pictures(2), (np.zeros(SHAPE, np.uint8), -1)]})
  with pytest.raises(
    ValueError, match=r'num_classes=3, but 1 of 3 .*labels\[2\]=-1.*choose a split'
  ) as info:
    data.load(
      'tiny', 'test', data_dir=str(tmp_path), cache_dir=str(tmp_path), resolution=resolution
    )
  assert info.value.__notes__ == ["This is split='test' of the data set name='tiny'."]


# What the records hold.


def test_every_kind_of_picture_has_the_same_pixels_whatever_is_installed(tmp_path, monkeypatch):
  """TFDS, which takes OpenCV if it finds it, decodes nothing."""
  monkeypatch.setattr(tfds.features.Image, 'decode_example_np', None)
  where = encoded(tmp_path, [(picture, 0) for picture, *_ in kinds.DECODED.values()])
  loaded = data.load('tiny', 'train', **where).images
  for image, (picture, *_) in zip(loaded, kinds.DECODED.values(), strict=True):
    np.testing.assert_array_equal(image, images.decode(picture, 3))
  (streamed,) = data.evaluation_batches(
    data.load('tiny', 'train', **where, resolution=32), len(loaded)
  )
  for image, (kind, (_, *colours)) in zip(streamed['image'], kinds.DECODED.items(), strict=True):
    found = image[[0, -1], [0, -1]].astype(int)
    np.testing.assert_allclose(found, colours, atol=4, err_msg=kind)


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_images_of_1_to_4_channels(tmp_path, channels):
  where = encoded(tmp_path, [(kinds.DECODED['png rgba'][0], 0)] * 4, channels)
  memory = data.load('tiny', 'train', **where)
  assert memory.image_shape == (32, 48, channels)
  streamed = data.load('tiny', 'train', **where, resolution=8)
  batch = next(data.train_batches(streamed, 4, seed=0))
  assert batch['image'].shape == (4, *streamed.image_shape) == (4, 8, 8, channels)


@pytest.mark.parametrize('resolution', [None, 8])
def test_images_without_a_number_of_channels_are_refused(tmp_path, resolution):
  where = encoded(tmp_path, [(kinds.DECODED['gif'][0], 0)], channels=None)
  with pytest.raises(ValueError, match=r"'tiny' has images of shape \(None, None, None\)\. Choose"):
    data.load('tiny', 'train', **where, resolution=resolution)


def test_names_of_classes(tmp_path):
  label = tfds.features.ClassLabel(names=['cat', 'dog', 'emu'])
  prepare(tmp_path, features(label=label), {'train': pictures(3)})
  where = {'data_dir': str(tmp_path), 'cache_dir': str(tmp_path)}
  for resolution in (None, 4):
    loaded = data.load('tiny', 'train', **where, resolution=resolution)
    assert loaded.class_names == ('cat', 'dog', 'emu')


def test_names_that_only_count_are_none(tiny):
  assert data.load('tiny', 'train', **tiny).class_names is None


def test_slices_share_their_images(tiny):
  parts = [data.load('tiny', s, **tiny) for s in ('train[:90%]', 'train[90%:]', 'train', 'test')]
  assert [id(part.images.base) == id(parts[0].images.base) for part in parts] == [1, 1, 1, 0]
  assert not parts[0].images.flags.writeable  # else a change would be seen by all
  twice = data.load('mnist5k', 'train[:50%]'), data.load('mnist5k', 'train[50%:]')
  assert twice[0].images.base is twice[1].images.base


def test_images_are_freed_with_their_last_slice(tiny):
  part = data.load('tiny', 'train[:50%]', **tiny)
  alive = weakref.ref(part.images.base)
  del part
  gc.collect()
  assert alive() is None
