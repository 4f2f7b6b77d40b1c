"""A workdir belongs to one run, and says by itself what it holds."""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import stat
import threading

import pytest
from etils import epath

from scs_jax.errors import ArgumentError, UserError
from scs_jax.workdir import (
  Checkpoints,
  WorkdirError,
  check_present,
  check_same_run,
  claim,
  config_hash,
  folder,
  holds_run,
  is_bucket,
  note_saved,
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

  def test_checkpoints_that_are_no_folder_are_no_steps(self, path):
    begin(path)
    (path / 'checkpoints').write_text('a file')
    begin(path)
    with pytest.raises(ArgumentError, match='cannot be written'):
      Checkpoints(path / 'checkpoints')

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


def put(path, *names):
  for name in names:
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text('{}\n')


class TestWholeness:
  @pytest.mark.parametrize(
    'name', ['checkpoints/300/manifest.json', 'metrics.jsonl', 'metrics-000000.jsonl', 'saved.json']
  )
  def test_parts_of_a_run_without_its_config_are_refused(self, path, name):
    put(path, name)
    for _ in range(2):
      with pytest.raises(ArgumentError, match=rf'holds {name[:11]}.* no config.json.* put the'):
        begin(path)
    assert not (path / 'lock').exists()

  def test_an_empty_folder_for_checkpoints_may_be_there(self, path):
    (path / 'checkpoints').mkdir(parents=True)
    begin(path)

  def test_checkpoints_that_were_removed_are_missed(self, path):
    begin(path)
    put(path, 'metrics.jsonl', 'checkpoints/300.pending/state')
    begin(path)  # killed before its first save
    note_saved(path, 300)
    put(path, 'checkpoints/300/manifest.json')
    begin(path)
    (path / 'checkpoints/300').rmtree()
    with pytest.raises(ArgumentError, match=r'has lost its checkpoints: put checkpoints/ back'):
      begin(path)
    for name in ('saved.json', 'metrics.jsonl'):  # what the message says
      (path / name).unlink()
    begin(path)

  def test_so_are_those_of_version_0_1_0(self, path):
    begin(path)
    put(path, 'metrics.jsonl', 'checkpoints/300/manifest.json')
    begin(path)
    (path / 'checkpoints').rmtree()
    with pytest.raises(ArgumentError, match='has lost its checkpoints'):
      begin(path)

  def test_a_config_without_a_run_says_so(self, path):
    put(path, 'checkpoints/300/manifest.json')
    with pytest.raises(ArgumentError, match=r'checkpoints without config.json: put it back'):
      read_config(path)

  def test_what_is_not_a_file_is_not_read(self, path):
    path.mkdir()
    os.mkfifo(path / 'config.json')
    with pytest.raises(ArgumentError, match=r'config.json that cannot be read .*is not a file'):
      begin(path)

  @pytest.mark.parametrize('name', ['lock', 'config.json.draft', 'model.json.draft'])
  def test_links_are_not_followed(self, path, tmp_path, name):
    target = tmp_path / 'target'
    target.write_text('mine')
    path.mkdir()
    (tmp_path / 'run' / name).symlink_to(target)
    with contextlib.suppress(ArgumentError):
      begin(path, sizes=SIZES)
    assert target.read_text() == 'mine'


class TestHolder:
  def test_of_many_first_starts_one_writes_its_config(self, path):
    """Threads race like processes: the lock belongs to the open file."""
    barrier = threading.Barrier(4)

    def start(round_, number):
      home = path / str(round_)
      barrier.wait()
      try:
        with claim(home, json.dumps({**CONFIG, 'seed': number}), ()):
          alone = read_config(home)['seed'] == number
          barrier.wait()
          return alone and read_config(home)['seed'] == number
      except (ArgumentError, WorkdirError):
        barrier.wait()
        return None

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      for round_ in range(25):
        outcomes = list(pool.map(start, [round_] * 4, range(4)))
        assert sorted(outcomes, key=str) == [None, None, None, True]

  def test_a_lock_that_changes_hands_is_noticed(self, path):
    with claim(path, json.dumps(CONFIG), MAY_CHANGE):
      check_present(path)
      (path / 'lock').unlink()
      with pytest.raises(WorkdirError, match='is now held by nobody: its lock was removed'):
        check_present(path)
      (path / 'lock').write_bytes(b'\xff')
      with pytest.raises(WorkdirError, match='is now held by'):
        check_present(path)
      (path / 'lock').write_text('process 7 on there\n7 abc\n')
      with pytest.raises(WorkdirError, match='is now held by process 7 on there'):
        check_present(path)

  def test_the_lock_is_a_plain_file(self, path):
    before = os.umask(0)
    try:
      begin(path)
    finally:
      os.umask(before)
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in path.iterdir()} == {0o644}


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


class TestHash:
  def test_it_is_that_of_what_changes_the_training(self, path):
    begin(path)
    before = config_hash(path, MAY_CHANGE)
    changed = {**CONFIG, 'mesh': {'data': 2, 'fsdp': 4}, 'log_every_steps': 3}
    (path / 'config.json').write_text(json.dumps(dict(reversed(changed.items())), indent=7))
    assert config_hash(path, MAY_CHANGE) == before
    (path / 'config.json').write_text(json.dumps({**CONFIG, 'batch_size': 32}))
    assert config_hash(path, MAY_CHANGE) != before


class TestReading:
  @pytest.mark.parametrize(
    'text',
    [
      '{}',
      '{"num_classes": 10}',
      '{"input_shape": [28, 28, 1], "num_clas3es": 10}',
      '{"input_shape": [28, 28], "num_classes": 10}',
      '{"input_shape": [28, 28, -1], "num_classes": 10}',
      '{"input_shape": [28, 28, 1], "num_classes": 1.0}',
      '{"input_shape": 28, "num_classes": true}',
    ],
  )
  def test_sizes_that_are_none_have_a_remedy_and_are_written_anew(self, path, text):
    begin(path, sizes=SIZES)
    (path / 'model.json').write_text(text)
    with pytest.raises(
      ArgumentError, match=r'has a model\.json that cannot .*delete it and resume'
    ):
      read_sizes(path)
    begin(path, sizes=SIZES)
    assert read_sizes(path) == SIZES

  @pytest.mark.parametrize('text', ['{"batch_size": 6', '[1]', '\x00', '[' * 100_000])
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


def read_text(data):
  return json.dumps(
    {**CONFIG, 'data': {'name': 'mnist', 'workers': 0, 'workers_of_old': 1, **data}}
  )


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

  def test_a_key_of_a_group_may_change_while_its_neighbours_may_not(self, path):
    begin(path, {**CONFIG, 'data': {'name': 'mnist', 'workers': 0, 'workers_of_old': 1}})
    check_same_run(path, read_text({'workers': 8}), ('mesh', 'data.workers'))
    for change in ({'name': 'cifar10'}, {'workers_of_old': 2}):
      with pytest.raises(ArgumentError, match='another config'):
        check_same_run(path, read_text(change), ('mesh', 'data.workers'))

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
