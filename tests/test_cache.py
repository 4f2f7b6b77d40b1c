"""The cache of decoded splits."""

import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from tiny import SHAPE, brightness, features, pictures, prepare

from scs_jax import data
from scs_jax.data import cache, prepared


@pytest.fixture
def tiny(tmp_path) -> dict[str, str]:
  data_dir = tmp_path / 'prepared'
  prepare(data_dir, features(), {'train': pictures(10), 'test': pictures(4, first=100)})
  return {'data_dir': str(data_dir), 'cache_dir': str(tmp_path / 'cache')}


def cached(tiny: dict[str, str]) -> list[pathlib.Path]:
  return sorted(pathlib.Path(tiny['cache_dir']).iterdir())


def forbid_decoding(monkeypatch) -> None:
  monkeypatch.setattr(
    prepared, 'decode', lambda *_: pytest.fail('decoded, not read from the cache')
  )


def test_second_load_reads_the_cache(tiny, monkeypatch):
  first = data.load('tiny', 'train', **tiny)
  (path,) = cached(tiny)
  assert path.name.startswith('tiny-1.0.0-train-')
  assert path.suffix == '.npz'
  forbid_decoding(monkeypatch)
  for name, split in (('tiny', 'train'), ('tiny:1.0.0', 'train[:100%]')):
    again = data.load(name, split, **tiny)
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert again.num_classes == first.num_classes


def truncate(data: bytes) -> bytes:
  return data[: len(data) // 2]


def flip_a_bit(data: bytes) -> bytes:
  at = data.index(bytes([5] * 20)) + 3  # inside the sixth image
  return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def ask_for_a_password(data: bytes) -> bytes:
  """Sets the bit of encryption in each entry of the archive's directory."""
  parts = data.split(b'PK\1\2')
  return b'PK\1\2'.join([parts[0], *(part[:4] + b'\1' + part[5:] for part in parts[1:])])


@pytest.mark.parametrize(
  'damage',
  [truncate, flip_a_bit, ask_for_a_password, lambda _: b'', lambda _: b'nonsense'],
)
def test_damaged_cache_is_rebuilt(tiny, damage, caplog):
  data.load('tiny', 'train', **tiny)
  (path,) = cached(tiny)
  good = path.read_bytes()
  path.write_bytes(damage(good))
  assert brightness(data.load('tiny', 'train', **tiny)) == list(range(10))
  assert 'is damaged' in caplog.text
  with np.load(path) as arrays:
    assert len(arrays['images']) == 10


def test_cache_of_another_length_is_rebuilt(tiny, caplog):
  data.load('tiny', 'train', **tiny)
  (path,) = cached(tiny)
  np.savez(path, images=np.zeros((9, *SHAPE), np.uint8), labels=np.zeros(9, np.int32))
  assert brightness(data.load('tiny', 'train', **tiny)) == list(range(10))
  assert '9 images and 9 labels instead of 10' in caplog.text


def test_data_set_prepared_again_is_not_confused(tiny, tmp_path):
  data.load('tiny', 'train', **tiny)
  other = tmp_path / 'other'  # same names, same sizes, other content
  prepare(other, features(), {'train': pictures(10)[::-1], 'test': pictures(4)})
  for path in other.rglob('*.array_record-*'):
    os.utime(path, (1, 1))
  examples = data.load('tiny', 'train', data_dir=str(other), cache_dir=tiny['cache_dir'])
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
        data.load('tiny', 'train', **tiny)
    else:
      assert brightness(data.load('tiny', 'train', **tiny)) == list(range(10))
  assert cached(tiny) == []
  assert brightness(data.load('tiny', 'train', **tiny)) == list(range(10))


def test_killed_write_is_never_read(tiny):
  cache = pathlib.Path(tiny['cache_dir'])
  code = (
    'import os, numpy as np; from scs_jax import data\n'
    "def savez(file, **_): file.write(b'half'); file.flush(); os._exit(9)\n"
    'np.savez = savez\n'
    f"data.load('tiny', 'train', **{tiny!r})"
  )
  root = pathlib.Path(data.__file__).parents[2]
  run = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, check=False)
  assert run.returncode == 9, run
  assert [path.suffix for path in cache.iterdir()] == ['.partial']
  assert brightness(data.load('tiny', 'train', **tiny)) == list(range(10))


def test_concurrent_writers_leave_one_whole_file(tmp_path):
  path = tmp_path / 'tiny.npz'
  images, labels = np.ones((2000, *SHAPE), np.uint8), np.zeros(2000, np.int32)
  seen = []

  def write_and_read():
    for _ in range(5):
      cache.write(path, images, labels, {})
      seen.append(cache.read(path, 2000))

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
  assert brightness(data.load('tiny', 'train', **where)) == list(range(10))
  assert 'could not be cached' in caplog.text
  assert 'damaged' not in caplog.text


def test_default_cache_folder(tiny, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  data.load('tiny', 'train', data_dir=tiny['data_dir'])
  assert len(list((tmp_path / 'xdg' / 'scs_jax').iterdir())) == 1
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  data.load('tiny', 'train', data_dir=tiny['data_dir'])
  assert len(list((tmp_path / 'home' / '.cache' / 'scs_jax').iterdir())) == 1
