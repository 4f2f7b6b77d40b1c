"""A workdir belongs to one run, and says by itself what it holds."""

import fcntl
import json

import pytest
from etils import epath

from scs_jax.errors import ArgumentError, UserError
from scs_jax.workdir import (
  WorkdirError,
  check_present,
  check_same_run,
  claim,
  folder,
  holds_run,
  is_bucket,
  read_config,
  read_sizes,
)

CONFIG = {'batch_size': 64, 'optimizer': {'name': 'sgd', 'momentum': 0.9}, 'mesh': {'data': -1}}
SIZES = {'input_shape': [28, 28, 1], 'num_classes': 10, 'versions': {'jax': '0.10'}}
MAY_CHANGE = ('mesh', 'log_every_steps')


@pytest.fixture
def path(tmp_path):
  return epath.Path(tmp_path) / 'run'


def begin(path, config=CONFIG, **options):
  with claim(path, json.dumps(config), MAY_CHANGE, **options) as claimed:
    assert claimed is None


def check(path, config, defaults=None):
  defaults = defaults if defaults is None else json.dumps(defaults)
  check_same_run(path, json.dumps(config), MAY_CHANGE, defaults)


class TestClaim:
  def test_the_first_start_writes_the_config(self, path):
    assert not holds_run(path)
    begin(path)
    assert holds_run(path)
    assert read_config(path) == CONFIG
    assert sorted(file.name for file in path.iterdir()) == ['config.json', 'lock']

  def test_a_second_user_is_refused_while_the_first_holds_it(self, path):
    begin(path)
    with (path / 'lock').open('w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      lock.write('process 1 on here')
      lock.flush()
      with pytest.raises(WorkdirError, match='in use by process 1 on here') as raised:
        begin(path)
    assert isinstance(raised.value, UserError)
    begin(path)

  def test_what_cannot_be_written_is_refused(self, path):
    path.write_text('a file')
    with pytest.raises(ArgumentError, match='cannot be written'):
      begin(path)

  def test_a_folder_that_disappears_is_missed(self, path):
    begin(path)
    check_present(path)
    path.rmtree()
    with pytest.raises(WorkdirError, match='is gone'):
      check_present(path)

  def test_an_empty_name_is_refused(self):
    assert folder('a/b') == epath.Path('a/b')
    with pytest.raises(ArgumentError, match='name a folder'):
      folder('')

  def test_addresses_are_buckets(self):
    assert is_bucket(epath.Path('gs://bucket/run'))
    assert not is_bucket(epath.Path('/tmp/run'))


class TestSizes:
  def test_they_return_as_given(self, path):
    begin(path, sizes=SIZES)
    assert read_sizes(path) == SIZES
    assert not list(path.glob('*.draft'))

  def test_they_are_written_when_missing_and_then_stay(self, path):
    begin(path)
    assert read_sizes(path) is None
    begin(path, sizes=SIZES)
    begin(path, sizes={**SIZES, 'versions': {'jax': '0.11'}})
    assert read_sizes(path) == SIZES

  def test_a_first_start_replaces_those_of_no_run(self, path):
    """A kill before config.json was written leaves a folder without a run."""
    begin(path, sizes={'num_classes': 3})
    (path / 'config.json').unlink()
    begin(path, sizes=SIZES)
    assert read_sizes(path) == SIZES

  def test_a_refused_run_writes_none(self, path):
    begin(path)
    with pytest.raises(ArgumentError, match='another config'):
      begin(path, {**CONFIG, 'batch_size': 32}, sizes=SIZES)
    assert read_sizes(path) is None


class TestReading:
  @pytest.mark.parametrize('text', ['{"batch_size": 6', '[1]', '\x00'])
  @pytest.mark.parametrize(
    ('name', 'read', 'remedy'),
    [
      ('config.json', read_config, 'put the right one back'),
      ('model.json', read_sizes, 'delete it and resume the run'),
    ],
  )
  def test_damaged_files_come_with_a_remedy(self, path, text, name, read, remedy):
    begin(path, sizes=SIZES)
    (path / name).write_text(text)
    with pytest.raises(ArgumentError, match=rf'has a {name} that cannot be read .*{remedy}'):
      read(path)

  def test_a_damaged_config_is_no_run_to_resume(self, path):
    begin(path)
    (path / 'config.json').write_text('{')
    with pytest.raises(ArgumentError, match='put the right one back'):
      begin(path)

  def test_a_folder_without_a_run(self, path):
    with pytest.raises(ArgumentError, match='holds no run: train first'):
      read_config(path)
    assert read_sizes(path) is None


class TestSameRun:
  def test_equal_values_agree(self, path):
    begin(path, {**CONFIG, 'total_epochs': 24, 'scale': (0.85, 1), 'clip_norm': None})
    check(path, {**CONFIG, 'total_epochs': 24.0, 'scale': [0.85, 1.0], 'clip_norm': None})
    check(path, {**CONFIG, 'total_epochs': 24, 'scale': (0.85, 1.0)})

  @pytest.mark.parametrize('defaults', [None, CONFIG])
  def test_differences_are_named_with_both_values(self, path, defaults):
    begin(path)
    changed = {**CONFIG, 'optimizer': {'name': 'adam', 'momentum': 0.9}, 'seed': 3}
    with pytest.raises(
      ArgumentError,
      match=r'another config \(optimizer.name: sgd there, adam here; seed: absent there, 3 here\)',
    ):
      check(path, changed, defaults)

  def test_some_keys_may_change(self, path):
    begin(path)
    check(path, {**CONFIG, 'mesh': {'data': 8, 'fsdp': 2}, 'log_every_steps': 7})

  def test_a_new_key_counts_as_its_default_in_an_old_workdir(self, path):
    begin(path)
    newer = {**CONFIG, 'ema_decay': 0.99}
    check(path, newer, defaults={**CONFIG, 'ema_decay': 0.99})
    with pytest.raises(ArgumentError, match=r'\(ema_decay: 0.5 there, 0.99 here\)'):
      check(path, newer, defaults={**CONFIG, 'ema_decay': 0.5})
    with pytest.raises(ArgumentError, match=r'\(ema_decay: absent there, 0.99 here\)'):
      check(path, newer)

  def test_a_key_of_the_old_workdir_counts_as_its_default_here(self, path):
    begin(path, {**CONFIG, 'cutout': 8})
    check(path, CONFIG, defaults={'cutout': 8})
    with pytest.raises(ArgumentError, match=r'\(cutout: 8 there, 0 here\)'):
      check(path, CONFIG, defaults={'cutout': 0})

  def test_a_value_that_differs_from_the_default_is_a_difference(self, path):
    begin(path)
    with pytest.raises(ArgumentError, match='batch_size: 64 there, 32 here'):
      check(path, {**CONFIG, 'batch_size': 32}, defaults={'batch_size': 32})

  def test_an_unknown_key_is_of_another_version(self, path):
    begin(path, {**CONFIG, 'augment': {'wobble': 0.5}})
    with pytest.raises(
      ArgumentError,
      match=r'another version of scs_jax.*\(augment.wobble=0.5\): use that version, or another wor',
    ):
      check(path, CONFIG, defaults=CONFIG)

  def test_an_unknown_key_without_a_value_changes_nothing(self, path):
    begin(path, {**CONFIG, 'augment': {'wobble': None}})
    check(path, CONFIG, defaults=CONFIG)

  def test_another_model_is_another_config_even_if_its_keys_are_unknown(self, path):
    begin(path, {**CONFIG, 'model': {'name': 'scs_net', 'stack': [1]}})
    other = {**CONFIG, 'model': {'name': 'resnet', 'depth': 20}}
    with pytest.raises(ArgumentError, match=r'another config .*model.name: scs_net there, resnet'):
      check(path, other, defaults=other)

  def test_a_workdir_of_version_0_1_0(self, version_0_1_0):
    path = epath.Path(version_0_1_0)
    config = read_config(path)
    assert read_sizes(path) is None
    removed, added = config['augment'].pop('cutout'), {'new': {'key': 1}}
    check(path, {**config, **added}, defaults={**added, 'augment': {'cutout': removed}})
    begin(path, read_config(path), sizes=SIZES)
    assert read_sizes(path) == SIZES
