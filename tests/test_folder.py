"""Folders of pictures: what is a picture, of which class, in which order, and what is refused."""

import builtins
import os
import pathlib
import pickle
import shutil

import kinds
import numpy as np
import pytest
from PIL import Image

from scs_jax import data
from scs_jax.data import folder
from scs_jax.data.bad_records import BadRecordError
from scs_jax.errors import ArgumentError

PICTURE = kinds.encode(Image.new('RGB', (6, 5), kinds.LEFT), 'PNG')


def write(path: pathlib.Path, content: bytes = PICTURE) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
  return path


def colour(path: pathlib.Path, value: int, size=(6, 5)) -> pathlib.Path:
  return write(path, kinds.encode(Image.new('RGB', size, (value,) * 3), 'PNG'))


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  """Two splits of the classes cat and dog, with eight and three pictures of each."""
  for split, values in (('train', range(8)), ('test', range(50, 53))):
    for label, name in enumerate(('cat', 'dog')):
      for i, value in enumerate(values):
        colour(tmp_path / 'pictures' / split / name / f'{i}.png', 100 * label + value)
  return tmp_path / 'pictures'


def load(root, split='train', **more):
  return data.load(f'folder:{root}', split, cache_dir=str(root.parent / 'cache'), **more)


@pytest.fixture
def streamed(monkeypatch):
  monkeypatch.setattr(folder, 'IN_MEMORY', 100)


def test_classes_are_folders_sorted_by_name(root):
  for split, count in (('train', 16), ('test', 6)):
    examples = load(root, split)
    assert examples.size == count
    assert (examples.class_names, examples.num_classes) == (('cat', 'dog'), 2)
    assert examples.image_shape == (5, 6, 3)
    np.testing.assert_array_equal(examples.labels, examples.images[:, 0, 0, 0] // 100)


def test_every_slice_has_the_classes_in_their_proportions(root):
  for i in range(8, 24):
    colour(root / 'train' / 'dog' / f'{i}.png', 100 + i)
  for split in ('train[:25%]', 'train[25%:75%]', 'train[-8:]'):
    labels = load(root, split).labels
    assert np.bincount(labels).tolist() == [len(labels) // 4, 3 * len(labels) // 4]


def test_the_order_depends_on_the_paths_alone(root, tmp_path):
  shutil.copytree(root, tmp_path / 'elsewhere')
  here, there = load(root), load(tmp_path / 'elsewhere')
  np.testing.assert_array_equal(here.images, there.images)
  before = {tuple(row) for row in load(root, 'train[:50%]').images[:, 0, 0]}
  colour(root / 'train' / 'cat' / 'one more.png', 99)
  after = {tuple(row) for row in load(root, 'train[:50%]').images[:, 0, 0]}
  assert len(before - after) <= 1


def test_one_tree_is_the_split_train(root):
  train, test = (load(root / 'train', s) for s in ('train[:75%]', 'train[75%:]'))
  assert (train.size, test.size) == (12, 4)
  assert train.images.base is test.images.base  # one copy in memory
  with pytest.raises(ArgumentError, match=r"split='test'.*'train': 16.*data\.eval_split='train\["):
    load(root / 'train', 'test')


def test_splits_may_have_any_name(root):
  (root / 'test').rename(root / 'val')
  assert load(root, 'val').size == 6
  assert load(root, 'all').size == load(root, 'train+val').size == 22


def test_what_is_no_picture_is_passed_over_and_counted_in_one_line(root, caplog):
  for name in ('.DS_Store', 'Thumbs.db', '._0.png', 'README', 'a.TXT', 'more/b.txt', '.git/x.png'):
    write(root / 'train' / 'cat' / name)
  write(root / 'train' / 'labels.csv')
  write(root / 'train' / '.hidden' / 'x.png')
  assert load(root).size == 16
  (line,) = caplog.messages
  assert line == (
    f"'{root}/train': passed over what is no picture: 1 .csv, 1 .db, 2 .txt, 4 hidden, "
    '1 without an extension'
  )


def test_pictures_in_folders_of_a_class_and_behind_links(root, tmp_path):
  colour(root / 'train' / 'cat' / 'deep' / 'down.JPG' / 'x.PNG', 50)
  colour(tmp_path / 'elsewhere' / 'y.png', 51)
  (root / 'train' / 'cat' / 'linked').symlink_to(tmp_path / 'elsewhere')
  (root / 'train' / 'cat' / 'z.png').symlink_to(root / 'test' / 'cat' / '0.png')
  assert load(root).size == 19
  (tmp_path / 'link').symlink_to(root)
  assert load(tmp_path / 'link').size == 19


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'JPEG2000'])
def test_formats(root, form):
  extension = {'JPEG2000': 'jp2'}.get(form, form)
  encoded = kinds.encode(Image.new('RGB', (6, 5), (250, 250, 250)), form)
  write(root / 'train' / 'cat' / f'x.{extension}', encoded)
  assert load(root).images.max() == 250


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_channels(root, channels):
  examples = load(root, channels=channels)
  assert examples.image_shape == (5, 6, channels)
  np.testing.assert_array_equal(examples.images[:, 0, 0, 0] // 100, examples.labels)


def refused(root):
  """Mistakes: what is done to the folder, and what the message says."""
  cat = root / 'train' / 'cat'
  link = lambda name, to: (cat / name).symlink_to(to)
  return {
    'a picture in no class': (lambda: write(root / 'train' / 'x.png'), "train/x.png' is in no cla"),
    'no picture': (lambda: shutil.rmtree(cat) or cat.mkdir(), "cat' has no picture to train on"),
    'no class': (lambda: [shutil.rmtree(cat), shutil.rmtree(root / 'train/dog')], 'no folder for'),
    'one class more': (lambda: write(root / 'test/emu/x.png'), r"test' must have.*has \['emu'\]"),
    'one class less': (lambda: shutil.rmtree(root / 'test/dog'), r"test' must .*lacks \['dog'\]"),
    'a loop': (lambda: link('loop', cat), "the link '.*cat/loop' leads back"),
    'a loop above': (lambda: link('up', root), "the link '.*' leads back"),
    'a link to itself': (lambda: link('me.png', 'me.png'), "cat/me.png' cannot be read: Too many"),
    'a link to nothing': (lambda: link('x.png', 'nowhere'), "cat/x.png' cannot be read: No such"),
    'a pipe': (lambda: os.mkfifo(cat / 'x.png'), "cat/x.png' is named like a picture but is no"),
    'a picture not decoded': (lambda: write(cat / 'x.HEIC'), "x.HEIC' has a format that is not"),
    'html': (lambda: write(cat / 'x.jpg', b'<html>'), "cat/x.jpg' cannot be decoded: it is no pic"),
    'empty': (lambda: write(cat / 'x.jpg', b''), "cat/x.jpg' cannot be decoded: it is empty"),
    'truncated': (lambda: write(cat / 'x.jpg', kinds.whole[:900]), "x.jpg' cannot be deco.*trunc"),
    'another size': (
      lambda: colour(cat / 'x.png', 1, (7, 5)),
      r"cat/.*' have different shapes, \(5, 6, 3\) and \(5, 7, 3\): set data",
    ),
  }


@pytest.mark.parametrize('mistake', refused(pathlib.Path()))
def test_mistakes_are_named_with_their_path_in_one_line(root, mistake):
  make, message = refused(root)[mistake]
  make()
  with pytest.raises(ArgumentError, match=message) as info:
    assert [load(root, split) for split in ('train', 'test')]
  assert '\n' not in str(info.value)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('folder:', r"data\.name='folder:' names no folder of this machine"),
    ('folder:gs://bucket/x', r'names no folder of this machine'),
    ('folder:/no/such', r"'/no/such' does not exist\. It must hold train/CLASS/"),
    (f'folder:{__file__}', r"test_folder\.py' is not a folder\."),
  ],
)
def test_names_of_no_folder(name, message):
  with pytest.raises(ArgumentError, match=message):
    data.load(name, 'train')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'resolution': 0}, r'data\.resolution must be at least 1, got 0'),
    ({'channels': 5}, r'data\.channels must be 1, 2, 3 or 4, got 5'),
    ({'skip_bad_records': -1}, r'data\.skip_bad_records must be at least 0, got -1'),
    ({'split': 'train['}, r"split='train\[' cannot be read from the data set 'folder:"),
    ({'split': 'train[:0]'}, r"split='train\[:0\]' .* is empty"),
  ],
)
def test_wrong_arguments(root, arguments, message):
  with pytest.raises(ArgumentError, match=message):
    load(root, **arguments)


@pytest.mark.parametrize('what', ['train', 'train/cat', 'train/cat/3.png'])
def test_what_may_not_be_read_is_named(root, monkeypatch, what):
  """Root may read everything, so the operating system's answer is put in here."""
  denied = str(root / what)

  def deny(function):
    def call(path, *arguments, **options):
      if str(path) == denied:
        raise PermissionError(13, 'Permission denied', denied)
      return function(path, *arguments, **options)

    return call

  monkeypatch.setattr(os, 'scandir', deny(os.scandir))
  monkeypatch.setattr(pathlib.Path, 'read_bytes', deny(pathlib.Path.read_bytes))
  monkeypatch.setattr(builtins, 'open', deny(open))
  with pytest.raises(ArgumentError, match=f"{denied}' cannot be .*: Permission denied"):
    load(root)


@pytest.mark.parametrize('name', ['猫 and é', 'a [b] *{c}', 'a:b', "quote's", 'new\nline'])
def test_odd_names(root, name):
  for split in ('train', 'test'):
    (root / split / 'dog').rename(root / split / name)
  moved = root.rename(root.with_name(name))
  assert load(moved).class_names == tuple(sorted(['cat', name]))
  write(moved / 'train' / name / f'{name}.jpg', b'')
  with pytest.raises(BadRecordError) as info:
    load(moved)
  assert '\n' not in str(info.value)


def test_home_and_relative_paths(root, monkeypatch):
  monkeypatch.setenv('HOME', str(root.parent))
  monkeypatch.chdir(root.parent)
  for name in ('folder:~/pictures', 'folder:pictures/', 'folder:./pictures'):
    assert data.load(name, 'test', cache_dir=str(root.parent / 'cache')).size == 6


def test_a_class_may_have_no_picture_to_test(root):
  shutil.rmtree(root / 'test' / 'dog')
  (root / 'test' / 'dog').mkdir()
  assert set(load(root, 'test').labels) == {0}


def test_the_same_picture_in_train_and_test_is_said(root, caplog):
  shutil.copy(root / 'train/cat/0.png', root / 'test/dog/0.png')
  colour(root / 'test/cat/1.png', 77)  # another picture with a name of train
  colour(root / 'test/cat/0.png', 77)
  load(root)
  (line,) = [m for m in caplog.messages if 'also in train' in m]
  assert line.startswith("1 pictures of 'test' are also in train, such as ")
  assert 'train/cat/0.png' in line
  assert 'test/dog/0.png' in line


# Sizes.


def test_pictures_of_any_size_are_scaled_in_memory_and_in_a_stream_alike(root, monkeypatch):
  rng = np.random.default_rng(0)
  for i, (width, height) in enumerate([(40, 30), (25, 60), (200, 150), (8, 8)]):
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    write(root / 'test' / 'cat' / f'n{i}.jpg', kinds.encode(noise, 'JPEG'))
  memory = load(root, 'test', resolution=16)
  assert memory.image_shape == (16, 16, 3)
  monkeypatch.setattr(folder, 'IN_MEMORY', 1000)
  stream = load(root, 'test', resolution=16)
  assert not isinstance(stream, data.Examples)
  (batch,) = data.evaluation_batches(stream, 10)
  np.testing.assert_array_equal(batch['image'], memory.images)
  np.testing.assert_array_equal(batch['label'], memory.labels)
  assert (stream.size, stream.num_classes, stream.class_names) == (10, 2, ('cat', 'dog'))


def test_more_than_the_limit_at_their_own_size_are_refused(root, streamed):
  with pytest.raises(ArgumentError, match=r'the 16 pictures of .*GiB at their own size: set data'):
    load(root)


def test_training_from_a_stream(root, streamed):
  records = load(root, resolution=8)
  batches = data.train_batches(records, 4, seed=0)
  drawn = [next(batches) for _ in range(8)]
  assert sorted(drawn[0]) == ['epoch', 'image', 'index', 'label']
  for batch in drawn:
    np.testing.assert_array_equal(batch['image'][:, 0, 0, 0] // 100, batch['label'])
  index = np.concatenate([batch['index'] for batch in drawn])
  assert sorted(index[:16]) == sorted(index[16:]) == list(range(16))
  part = load(root, 'train[25%:]', resolution=8)
  np.testing.assert_array_equal(
    [part.read(i, None)[1] for i in range(12)], [records.read(i, None)[1] for i in range(4, 16)]
  )


# Bad pictures.


@pytest.fixture
def two_bad(root):
  return [write(root / 'train' / path, b'junk') for path in ('cat/3.png', 'dog/5.png')]


@pytest.mark.parametrize('resolution', [None, 8])
@pytest.mark.parametrize('limit', [100, 1 << 30])
def test_bad_pictures_are_named_or_left_out_counted_and_said(
  root, two_bad, monkeypatch, caplog, resolution, limit
):
  if resolution:
    monkeypatch.setattr(folder, 'IN_MEMORY', limit)
  with pytest.raises(BadRecordError, match=rf"'{root}/train/.*skip_bad_records=1$"):
    load(root, resolution=resolution)
  with pytest.raises(
    BadRecordError, match=r'2 of 16 records are bad, and data\.skip_bad_records=1'
  ):
    load(root, resolution=resolution, skip_bad_records=1)
  caplog.clear()
  for _ in range(2):  # the second time with what the cache holds
    left = load(root, resolution=resolution, skip_bad_records=2)
    halves = [
      load(root, split, resolution=resolution, skip_bad_records=2)
      for split in ('train[:50%]', 'train[50%:]')
    ]
    assert left.size == sum(half.size for half in halves) == 14
  for path in two_bad:
    assert f'{str(path)!r} cannot be decoded: it is no picture' in caplog.text
  assert '2 of 16 records are bad, of at most 2' in caplog.text


def test_a_picture_that_goes_bad_later_is_named_too(root, streamed):
  records = load(root, resolution=8)
  path = write(root / 'train' / 'cat' / '3.png', b'')
  with pytest.raises(BadRecordError, match=f"'{path}' cannot be decoded: it is empty"):
    list(data.evaluation_batches(records, 16))


def test_worker_processes_can_send_the_error():
  error = pickle.loads(pickle.dumps(BadRecordError('a is bad', 'Repair it')))
  assert str(error) == 'a is bad. Repair it, or leave it out: data.skip_bad_records=1'
  assert (error.problem, error.remedy) == ('a is bad', 'Repair it')


# The cache.


def test_what_was_decoded_is_not_decoded_again_until_it_changes(root, monkeypatch):
  first = load(root)
  images = first.images.copy()
  del first
  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, 'read_bytes', lambda path: pytest.fail(f'{path} is read'))
    np.testing.assert_array_equal(load(root).images, images)
  colour(root / 'train' / 'cat' / '0.png', 60)
  assert (load(root).images == 60).any()
  assert len(list((root.parent / 'cache').iterdir())) == 1  # the old file was replaced
  for split in ('train', 'test'):
    (root / split / 'cat').rename(root / split / 'zebra')
  assert load(root).class_names == ('dog', 'zebra')
  np.testing.assert_array_equal(load(root).labels, load(root).images[:, 0, 0, 0] < 100)


def test_what_was_checked_is_not_checked_again_until_it_changes(root, streamed, monkeypatch):
  load(root, resolution=8)
  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, 'read_bytes', lambda path: pytest.fail(f'{path} is read'))
    assert load(root, resolution=8).size == 16
  write(root / 'train' / 'cat' / '0.png', b'')
  with pytest.raises(BadRecordError, match='it is empty'):
    load(root, resolution=8)
