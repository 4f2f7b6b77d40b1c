"""Files are written whole, follow no link, and live under names that checkpoints can have."""

import os
import pathlib
import stat

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from scs_jax.errors import ArgumentError
from scs_jax.workdir import Checkpoints, folder, storage, write_whole


class TestFolder:
  @pytest.mark.parametrize(
    'name',
    [
      *('lr[0.1]', 'a*b', 'a?b', 'a\\b', 'a\nb', 'a\0b', 'a\x7fb', 'a\udcffb', b'a\xffb'),
      *('~nobody-of-that-name/x', 'file:///x', 's3://b/x', 'gs:/b/x', 'gs://', 'gs://b/a[0]'),
      *('/gs/x', '/s3/x'),
    ],
  )
  def test_names_that_no_checkpoint_could_have_are_refused_at_once(self, name):
    with pytest.raises(ArgumentError, match='--workdir') as raised:
      folder(name)
    assert str(raised.value).isprintable()  # one line

  def test_folders_above_count(self, tmp_path, monkeypatch):
    (tmp_path / '[2024]').mkdir()
    monkeypatch.chdir(tmp_path / '[2024]')
    with pytest.raises(ArgumentError, match=r"'\[' '\]'"):
      folder('run')

  def test_the_home_folder_is_meant(self, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert folder('~/runs') == epath.Path(tmp_path) / 'runs'
    assert folder('x~/~y') == epath.Path('x~/~y')

  def test_addresses_stay_as_they_are(self):
    assert str(folder('gs://bucket/a b/run')) == 'gs://bucket/a b/run'

  def test_every_other_name_holds_checkpoints(self, tmp_path):
    names = 'a b', 'ünï-日本', 'a{b,c}', "it's", '"', '$HOME', '%20', '-x', 'x~', '.x', '#1', '<'
    path = folder(tmp_path.joinpath(*names))
    state = {'w': jnp.arange(3.0)}
    with Checkpoints(path / 'checkpoints') as checkpoints:
      checkpoints.save(1, state, {})
      checkpoints.wait()
      shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
      )
      assert checkpoints.restore(shapes).step == 1
    assert [step.name for step in (tmp_path.joinpath(*names) / 'checkpoints').iterdir()] == ['1']


@pytest.fixture
def path(tmp_path):
  return epath.Path(tmp_path) / 'file'


class TestFiles:
  def test_their_mode_is_0644(self, path):
    before = os.umask(0)
    try:
      write_whole(path, b'text')
      os.close(storage.open_own(path.parent / 'other', os.O_RDWR))
    finally:
      os.umask(before)
    assert path.read_bytes() == b'text'
    for file in path.parent.iterdir():
      assert stat.S_IMODE(os.stat(file).st_mode) == 0o644
    assert sorted(file.name for file in path.parent.iterdir()) == ['file', 'other']

  def test_links_are_not_followed(self, path):
    target = pathlib.Path(path.parent / 'target')
    target.write_text('mine')
    for name in ('file', 'file.draft'):
      (pathlib.Path(path.parent) / name).symlink_to(target)
    with pytest.raises(OSError, match='symbolic links'):
      storage.open_own(path, os.O_WRONLY)
    write_whole(path, b'text')
    assert target.read_text() == 'mine'
    assert path.read_bytes() == b'text'
    assert not os.path.islink(path)

  def test_a_pipe_does_not_block(self, path):
    os.mkfifo(path)
    with pytest.raises(OSError, match=r'No such device or address'):
      storage.open_own(path, os.O_WRONLY)
    with pytest.raises(OSError, match=rf'is not a file: .*{path}'):
      storage.open_own(path, os.O_RDWR)

  def test_leftovers_that_are_no_folders_are_removed_too(self, path):
    directory = pathlib.Path(path.parent)
    os.mkfifo(directory / '5.pending')
    (directory / '6.deleted').symlink_to(directory)
    (directory / '7.pending').write_text('')
    (directory / 'kept').write_text('')
    with Checkpoints(directory):
      assert [file.name for file in directory.iterdir()] == ['kept']

  def test_what_was_there_stays_if_the_new_text_cannot_be_written(self, path, monkeypatch):
    write_whole(path, b'before')

    def fail(_):
      raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match=rf'No space left on device.*{path}'):
      write_whole(path, b'after')
    assert path.read_bytes() == b'before'
    assert [file.name for file in path.parent.iterdir()] == ['file']


def test_reasons_are_short_lines():
  long = ValueError("RESOURCE_EXHAUSTED: Error\nwriting {...}: No space [os_error_code='28']")
  assert storage.reason(long) == 'No space left on device'
  assert storage.reason(OSError(5, 'broken')) == '[Errno 5] broken'
  assert storage.reason(KeyError('x' * 1000)).startswith("KeyError: 'xxx")
  assert len(storage.reason(KeyError('x' * 1000))) < 400
