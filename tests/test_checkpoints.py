"""Checkpoints survive disk faults, kills and new device counts."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from absl import logging
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from scs_jax.errors import UserError
from scs_jax.workdir import manifest
from scs_jax.workdir.checkpoints import CheckpointError, Checkpoints, SaveError


def make_mesh(devices=8):
  return jax.make_mesh(
    (devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
  )


def make_shardings(tree, devices=8):
  """The first dimension sharded where it divides, everything else replicated."""
  mesh = make_mesh(devices)

  def choose(leaf):
    sharded = leaf.ndim > 0 and leaf.shape[0] % 8 == 0
    return NamedSharding(mesh, PartitionSpec('data') if sharded else PartitionSpec())

  return jax.tree.map(choose, tree)


def make_state(seed=0):
  """Optimizer state, bfloat16, integers, scalars, NaN, infinities and a negative zero."""
  key = jax.random.key(seed)
  params = {
    'dense': {'kernel': jax.random.normal(key, (16, 5)), 'bias': jnp.arange(5.0) + seed},
    'half': jax.random.normal(key, (8, 3)).astype(jnp.bfloat16),
    'odd': jnp.array([jnp.nan, jnp.inf, -jnp.inf, -0.0, 1e-45]),
    'p': jnp.float32(1.5 + seed),
  }
  state = {
    'params': params,
    'optimizer': optax.adam(1e-3).init(params),
    'step': jnp.int32(seed),
    'key': jax.random.key_data(key),
    'counts': jnp.arange(7, dtype=jnp.uint8),
  }
  return jax.device_put(state, make_shardings(state))


def make_abstract(state, devices=8):
  shapes = jax.eval_shape(lambda: state)
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
    shapes,
    make_shardings(shapes, devices),
  )


SMALL = {'w': jnp.arange(8.0)}  # for tests that do not depend on the tree
ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
SMALL_ABSTRACT = {'w': jax.ShapeDtypeStruct((8,), jnp.float32, sharding=ONE_DEVICE)}


def assert_same_bits(got, expected):
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_steps(directory, *steps, metrics=None, **options):
  with Checkpoints(directory, **options) as checkpoints:
    for step in steps:
      extra = {'metrics': {'val/accuracy': metrics[step]}} if metrics else {}
      checkpoints.save(step, {'w': jnp.arange(8.0) + step}, extra)


def restore_step(directory, read_only=False, **options):
  """Checks the content of the restored step; returns its number and why others were skipped."""
  with Checkpoints(directory, read_only=read_only) as checkpoints:
    step, state, _ = checkpoints.restore(SMALL_ABSTRACT, **options)
    assert_same_bits(state, {'w': jnp.arange(8.0) + step})
    return step, checkpoints.skipped


def save_and_wait(checkpoints, step, state):
  checkpoints.save(step, state, {})
  checkpoints.wait()


def list_files(directory):
  return sorted(path for path in pathlib.Path(directory).rglob('*') if path.is_file())


def flip_byte(path, random_):
  data = bytearray(path.read_bytes())
  position = random_.randrange(len(data))
  data[position] ^= random_.randrange(1, 256)
  path.write_bytes(data)


def digest_tree(directory):
  entries = sorted(pathlib.Path(directory).rglob('*'))
  text = [(str(p), p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else '') for p in entries]
  return hashlib.sha256(repr(text).encode()).hexdigest()


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory):
  """Steps 100 and 200, to copy and damage."""
  directory = tmp_path_factory.mktemp('two_steps')
  save_steps(directory, 100, 200)
  return directory


@pytest.fixture
def copy(two_steps, tmp_path):
  return pathlib.Path(shutil.copytree(two_steps, tmp_path / 'copy'))


class TestRoundTrip:
  def test_bits_structure_and_extra_return(self, tmp_path):
    state = make_state()
    extra = {'iterator': {'step': 7}, 'metrics': {'val/accuracy': 0.5, 'val/loss': float('nan')}}
    with Checkpoints(tmp_path) as checkpoints:
      checkpoints.save(7, state, extra)
      step, restored, extra_restored = checkpoints.restore(make_abstract(state))
      assert step == checkpoints.latest_step() == 7
    assert_same_bits(restored, state)
    assert isinstance(restored['optimizer'][0], optax.ScaleByAdamState)
    assert json.dumps(extra_restored) == json.dumps(extra)
    assert jax.tree.map(lambda a: a.sharding, restored) == make_shardings(state)

  def test_donating_the_state_after_save_returns_changes_nothing(self, tmp_path):
    expected = {
      'sharded': np.random.default_rng(0).normal(size=(64, 1 << 14)).astype(np.float32),
      'replicated': np.arange(1 << 16, dtype=np.float32),
    }
    mesh = make_mesh()
    update = jax.jit(lambda s: jax.tree.map(lambda a: a * 1.5 + 1, s), donate_argnums=0)
    shardings = {
      'sharded': NamedSharding(mesh, PartitionSpec('data')),
      'replicated': NamedSharding(mesh, PartitionSpec()),
    }
    with Checkpoints(tmp_path) as checkpoints:
      for step in range(3):
        # Computed on the device, because JAX reuses only buffers that it owns.
        state = jax.jit(lambda s: jax.tree.map(jnp.copy, s), out_shardings=shardings)(expected)
        abstract = jax.tree.map(
          lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
        )
        checkpoints.save(step, state, {})
        for _ in range(20):
          state = update(state)
        jax.block_until_ready(state)
        assert_same_bits(checkpoints.restore(abstract).state, expected)

  def test_extra_is_copied(self, tmp_path):
    extra = {'iterator': {'step': 1}}
    with Checkpoints(tmp_path) as checkpoints:
      checkpoints.save(1, SMALL, extra)
      extra['iterator']['step'] = 2
      assert checkpoints.restore(SMALL_ABSTRACT).extra == {'iterator': {'step': 1}}

  def test_other_device_counts(self, tmp_path):
    state = make_state()
    saved = state
    for step, devices in enumerate([8, 4, 1, 8]):
      with Checkpoints(tmp_path) as checkpoints:
        if step:
          abstract = make_abstract(state, devices)
          saved = checkpoints.restore(abstract).state
          assert saved['params']['dense']['kernel'].sharding.num_devices == devices
          assert_same_bits(saved, state)
        checkpoints.save(step, saved, {})

  def test_saves_under_a_transfer_guard(self, tmp_path):
    with Checkpoints(tmp_path) as checkpoints, jax.transfer_guard('disallow'):
      checkpoints.save(1, SMALL, {})
      assert checkpoints.verified_steps() == [1]


class TestChoice:
  @pytest.mark.parametrize('read_only', [False, True])
  def test_empty_or_absent_directory_is_none(self, tmp_path, read_only):
    with Checkpoints(tmp_path / 'new', read_only=read_only) as checkpoints:
      assert checkpoints.restore(SMALL_ABSTRACT) is None
      assert checkpoints.latest_step() is None
      assert checkpoints.best_step() is None
    assert (tmp_path / 'new').exists() is not read_only

  def test_given_step(self, two_steps):
    assert restore_step(two_steps, read_only=True, step=100) == (100, {})
    with pytest.raises(CheckpointError, match=r'no step 150.*\[100, 200\]'):
      restore_step(two_steps, read_only=True, step=150)

  def test_given_step_damaged_is_an_error(self, copy):
    (copy / '200/extra/metadata').unlink()
    with pytest.raises(CheckpointError, match='step 200: extra/metadata is missing'):
      restore_step(copy, step=200)
    assert (copy / '200').exists()

  def test_first_mismatch_is_named_with_both_shapes(self, copy):
    before = digest_tree(copy)
    cases = {
      r"'w' is float32\[8\] in the checkpoint and float32\[9\] in the model": {
        'w': jax.ShapeDtypeStruct((9,), jnp.float32, sharding=ONE_DEVICE)
      },
      r"'w' is float32\[8\] in the checkpoint and bfloat16\[8\]": {
        'w': jax.ShapeDtypeStruct((8,), jnp.bfloat16, sharding=ONE_DEVICE)
      },
      r"'a/b' is absent in the checkpoint and float32\[\]": {
        **SMALL_ABSTRACT,
        'a': {'b': jax.ShapeDtypeStruct((), jnp.float32, sharding=ONE_DEVICE)},
      },
      r"'w' is float32\[8\] in the checkpoint and absent in the model": {},
    }
    for message, abstract in cases.items():
      with Checkpoints(copy) as checkpoints, pytest.raises(CheckpointError, match=message):
        checkpoints.restore(abstract)
    with Checkpoints(copy) as checkpoints, pytest.raises(ValueError, match='sharding'):
      checkpoints.restore({'w': jax.ShapeDtypeStruct((8,), jnp.float32)})
    assert digest_tree(copy) == before

  def test_failure_of_an_intact_step_is_no_fall_back(self, copy, monkeypatch):
    def fail(*_, **__):
      raise ValueError('out of luck')

    with Checkpoints(copy) as checkpoints:
      monkeypatch.setattr(ocp.AsyncCheckpointer, 'restore', fail)
      with pytest.raises(CheckpointError, match=r'step 200 .* agrees .* out of luck'):
        checkpoints.restore(SMALL_ABSTRACT)


def training_state(step):
  """As training saves it: layers in a list have int keys, and statistics may be empty."""
  params = {
    'blocks': {0: {'kernel': jnp.arange(16.0) + step}, 2: {'half': jnp.ones(8, jnp.bfloat16)}},
    'p': jnp.float32(step),
  }
  state = {
    'params': params,
    'statistics': {},
    'optimizer': optax.adam(1e-3).init(params),
    'ema': {'params': params, 'statistics': {}, 'steps': jnp.int32(step)},
  }
  return jax.device_put(state, make_shardings(state))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """Steps 1 and 2 of a training state, saved from eight devices."""
  directory = tmp_path_factory.mktemp('trained')
  with Checkpoints(directory) as checkpoints:
    for step in (1, 2):
      extra = {'metrics': {'val/loss': 0.5}, 'step': step}
      checkpoints.save(step, training_state(step), extra)
  return directory


class TestParts:
  @pytest.mark.parametrize('parts', [['params', 'statistics'], ['ema'], ['statistics'], []])
  def test_only_the_named_parts_return(self, trained, parts):
    with Checkpoints(trained, read_only=True) as checkpoints:
      step, state, extra = checkpoints.restore_parts([*parts, 'absent'])
    assert step == 2
    assert list(state) == parts
    assert_same_bits(state, {name: training_state(2)[name] for name in parts})
    assert extra == {'metrics': {'val/loss': 0.5}, 'step': 2}
    for leaf in jax.tree.leaves(state):
      assert isinstance(leaf, jax.Array)
      assert leaf.devices() == {jax.devices()[0]}

  def test_tuples_return_as_lists(self, trained):
    with Checkpoints(trained, read_only=True) as checkpoints:
      optimizer = checkpoints.restore_parts(['optimizer']).state['optimizer']
    assert isinstance(optimizer, list)
    assert optimizer[0]['mu']['blocks'][2]['half'].dtype == jnp.bfloat16

  def test_beside_saves_and_whole_restores(self, tmp_path):
    state = make_state()
    with Checkpoints(tmp_path) as checkpoints:
      for step in (1, 2):
        checkpoints.save(step, state, {})
        assert_same_bits(checkpoints.restore_parts(['key']).state, {'key': state['key']})
        assert_same_bits(checkpoints.restore(make_abstract(state)).state, state)

  def test_a_given_step_and_none_at_all(self, trained, tmp_path):
    with Checkpoints(trained, read_only=True) as checkpoints:
      assert checkpoints.restore_parts(['ema'], step=1).state['ema']['steps'] == 1
      with pytest.raises(CheckpointError, match='no step 3'):
        checkpoints.restore_parts(['ema'], step=3)
    with Checkpoints(tmp_path / 'new', read_only=True) as checkpoints:
      assert checkpoints.restore_parts(['ema']) is None

  @pytest.mark.parametrize('read_only', [False, True])
  def test_falls_back_from_a_damaged_step(self, trained, tmp_path, read_only):
    copy = pathlib.Path(shutil.copytree(trained, tmp_path / 'copy'))
    flip_byte(largest(copy / '2'), random.Random(0))
    with Checkpoints(copy, read_only=read_only) as checkpoints:
      step, state, _ = checkpoints.restore_parts(['params'])
      assert 'has changed' in checkpoints.skipped[2]
    assert step == 1
    assert_same_bits(state, {'params': training_state(1)['params']})
    assert (copy / 'damaged/2-0').exists() is not read_only
    with Checkpoints(copy, read_only=True) as checkpoints:
      (copy / '1/manifest.json').unlink()
      with pytest.raises(CheckpointError, match='step 1: it has no manifest'):
        checkpoints.restore_parts(['params'])

  def test_64_bits_are_not_cut_in_silence(self, tmp_path):
    with jax.enable_x64(True), Checkpoints(tmp_path) as checkpoints:
      checkpoints.save(1, {'w': jnp.arange(3.0), 'v': jnp.ones(2, jnp.float32)}, {})
      assert checkpoints.restore_parts(['w']).state['w'].dtype == jnp.float64
    with Checkpoints(tmp_path) as checkpoints:
      with pytest.raises(CheckpointError, match=r'float64.*jax_enable_x64'):
        checkpoints.restore_parts(['w'])
      assert checkpoints.restore_parts(['v']).step == 1

  @pytest.mark.parametrize(
    ('parts', 'digest'),
    [
      (['params'], 'ed706fd6a3dda47ef58a7d1ec549d2e6539014f86e11d67d744a77e72987d4a0'),
      (['ema'], '486dad252d864640edb9d063d8c7db76c49a861c1104c464732edf8803ba4f61'),
    ],
  )
  def test_of_version_0_1_0(self, version_0_1_0, parts, digest):
    """The digests are those that version 0.1.0 computed itself."""
    with Checkpoints(version_0_1_0 / 'checkpoints', read_only=True) as checkpoints:
      step, state, extra = checkpoints.restore_parts([*parts, 'statistics'])
    assert step == extra['iterator']['step'] == 4
    assert state['statistics'] == {}
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state[parts[0]]):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      total.update(name.encode() + np.asarray(leaf).tobytes())
    assert total.hexdigest() == digest

  def test_on_one_device(self, trained):
    """Another process, which lacks the devices of the save."""
    code = f"""
import jax
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 1)
from scs_jax.workdir import Checkpoints
with Checkpoints({str(trained)!r}, read_only=True) as checkpoints:
  step, state, _ = checkpoints.restore_parts(['params'])
print(jax.device_count(), step, state['params']['blocks'][0]['kernel'].sum())
"""
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
      [sys.executable, '-c', code],
      capture_output=True,
      text=True,
      check=True,
      env={**os.environ, 'PYTHONPATH': str(root)},
    )
    assert done.stdout.split() == ['1', '2', str(float(sum(range(16)) + 32))]


class TestDamage:
  def test_flipped_byte_in_every_file(self, two_steps, tmp_path):
    random_ = random.Random(0)
    names = [path.relative_to(two_steps) for path in list_files(two_steps / '200')]
    assert len(names) > 8
    for number, name in enumerate(names * 3):
      copy = pathlib.Path(shutil.copytree(two_steps, tmp_path / str(number)))
      if not (copy / name).stat().st_size:
        continue
      flip_byte(copy / name, random_)
      with Checkpoints(copy) as checkpoints:
        assert checkpoints.verified_steps() == [100], name
        if number >= len(names):
          continue  # restoring costs more than verifying
        step, state, _ = checkpoints.restore(SMALL_ABSTRACT)
        assert_same_bits(state, {'w': jnp.arange(8.0) + 100})
        assert step == 100
        assert name.name in checkpoints.skipped[200]
      assert not (copy / '200').exists()
      assert (copy / 'damaged/200-0').exists()

  def test_every_byte_of_the_manifest_counts(self, two_steps):
    data = (two_steps / '200/manifest.json').read_bytes()
    assert manifest.decode(data)['step'] == 200
    random_ = random.Random(1)
    for position in range(len(data)):
      flips = {random_.randrange(1, 256)}
      if data[position : position + 1].isspace():
        flips |= {data[position] ^ other for other in b' \n\t\r'} - {0}
      for flip in flips:
        changed = bytearray(data)
        changed[position] ^= flip
        with pytest.raises(manifest.DamagedError):
          manifest.decode(bytes(changed))
    for length in (0, 1, len(data) // 2, len(data) - 1):
      with pytest.raises(manifest.DamagedError):
        manifest.decode(data[:length])

  @pytest.mark.parametrize(
    ('damage', 'reason'),
    [
      (lambda step: os.truncate(largest(step), largest(step).stat().st_size // 2), 'has changed'),
      (lambda step: os.truncate(step / 'manifest.json', 0), 'manifest.json is damaged'),
      (lambda step: largest(step).unlink(), 'is missing'),
      (lambda step: (step / 'manifest.json').unlink(), 'never verified'),
      (lambda step: (step / 'state/d/extra').write_text(''), 'state/d/extra does not belong'),
      (lambda step: shutil.rmtree(step / 'state'), 'is missing'),
      (lambda step: [shutil.rmtree(step), step.mkdir()], 'never verified'),
      (lambda step: [shutil.rmtree(step), step.write_text('')], 'never verified'),
      (
        lambda step: [shutil.rmtree(step), shutil.copytree(step.parent / '100', step)],
        'manifest is that of step 100',
      ),
    ],
  )
  def test_falls_back_names_the_step_and_saves_it_again(self, copy, caplog, damage, reason):
    damage(copy / '200')
    caplog.set_level('WARNING')
    logging.get_absl_logger().addHandler(caplog.handler)
    try:
      step, skipped = restore_step(copy)
    finally:
      logging.get_absl_logger().removeHandler(caplog.handler)
    assert step == 100
    assert reason in skipped[200]
    assert f'Skipping step 200 in {copy}' in caplog.text
    assert str(copy / 'damaged/200-0') in caplog.text
    save_steps(copy, 200)
    assert restore_step(copy) == (200, {})

  def test_damaged_again_and_again_keeps_all_evidence(self, copy):
    for number in range(2):
      (copy / '200/extra/metadata').unlink()
      assert restore_step(copy)[0] == 100
      assert (copy / f'damaged/200-{number}').exists()
      save_steps(copy, 200)

  def test_all_damaged_is_an_error_every_time(self, copy):
    (copy / '100/extra/metadata').write_text('{ }')
    (copy / '200/manifest.json').unlink()
    before = digest_tree(copy)
    for _ in range(2):
      with pytest.raises(CheckpointError) as raised:
        restore_step(copy)
      assert 'step 200: it has no manifest.json' in str(raised.value)
      assert 'step 100: extra/metadata has changed' in str(raised.value)
    assert digest_tree(copy) == before

  def test_save_over_a_step(self, copy):
    with Checkpoints(copy) as checkpoints:
      with pytest.raises(ValueError, match='already holds a good step 200'):
        checkpoints.save(200, SMALL, {})
      (copy / '200/extra/metadata').unlink()
      checkpoints.save(200, {'w': jnp.arange(8.0) + 200}, {})
    assert restore_step(copy) == (200, {})
    assert (copy / 'damaged/200-0').exists()

  def test_read_only_changes_nothing(self, copy):
    (copy / '200/extra/metadata').unlink()
    (copy / '300.pending.orbax-checkpoint-tmp').mkdir()
    (copy / '50.deleted').mkdir()
    before = digest_tree(copy)
    assert restore_step(copy, read_only=True) == (100, {200: 'extra/metadata is missing'})
    with Checkpoints(copy, read_only=True) as checkpoints:
      assert checkpoints.verified_steps() == [100]
      with pytest.raises(ValueError, match='reading only'):
        checkpoints.save(300, SMALL, {})
    assert digest_tree(copy) == before

  def test_leftovers_go_and_other_files_stay(self, copy):
    for name in ('300.pending.orbax-checkpoint-tmp', '300.pending', '50.deleted', '200.bak', 'x'):
      (copy / name).mkdir()
    Checkpoints(copy).close()
    assert {path.name for path in copy.iterdir()} == {'100', '200', '200.bak', 'x'}


def largest(step):
  """The file that holds most of the arrays."""
  return max(list_files(step / 'state'), key=lambda path: path.stat().st_size)


def sign_again(step):
  """Writes a manifest that agrees with the files that are there."""
  path = epath.Path(step)
  contents = manifest.decode((path / 'manifest.json').read_bytes())
  contents['files'] = manifest.fingerprints(path)
  (path / 'manifest.json').write_bytes(manifest.encode(contents))


class TestReadingBack:
  def test_a_step_that_cannot_be_read_is_not_good_though_its_hashes_agree(self, copy):
    """Without any of its files a step is restored as it was, or passed over."""
    needed = []
    for name in [path.relative_to(copy) for path in list_files(copy / '200')]:
      if name.name == 'manifest.json':
        continue
      data = (copy / name).read_bytes()
      (copy / name).unlink()
      sign_again(copy / '200')
      step, skipped = restore_step(copy, read_only=True)
      if step == 100:
        assert 'it cannot be restored' in skipped[200]
        needed.append(name)
      (copy / name).write_bytes(data)
    assert {'manifest.ocdbt', 'metadata'} <= {name.name for name in needed}
    (copy / needed[-1]).unlink()
    sign_again(copy / '200')
    with Checkpoints(copy) as checkpoints:
      assert checkpoints.verified_steps() == [100]
    assert restore_step(copy)[0] == 100
    assert (copy / 'damaged/200-0').exists()

  def test_what_was_written_is_read_back_before_it_counts(self, copy, monkeypatch):
    finish = ocp.AsyncCheckpointer.wait_until_finished

    def lose_a_file(self):
      finish(self)
      for path in copy.glob('300.pending/state/manifest.ocdbt'):
        path.unlink()

    monkeypatch.setattr(ocp.AsyncCheckpointer, 'wait_until_finished', lose_a_file)
    with Checkpoints(copy, keep_latest=1) as checkpoints:
      checkpoints.save(300, SMALL, {})
      with pytest.raises(
        SaveError, match=r'step 300 .* cannot be restored.* last good step is 200'
      ):
        checkpoints.wait()
    assert {path.name for path in copy.iterdir()} == {'100', '200'}

  def test_what_is_not_a_file_is_damage(self, copy):
    os.mkfifo(copy / '200/state/pipe')  # reading it would wait for a writer
    assert restore_step(copy, read_only=True) == (100, {200: 'state/pipe is not a file'})
    (copy / '200/manifest.json').unlink()
    os.mkfifo(copy / '200/manifest.json')
    assert restore_step(copy) == (100, {200: 'manifest.json is not a file'})

  def test_a_manifest_without_its_entries_is_damaged(self, copy):
    (copy / '200/manifest.json').write_bytes(manifest.encode({'step': 200, 'files': {}}))
    assert restore_step(copy) == (100, {200: 'its manifest.json lacks an entry'})


class TestConfig:
  def test_steps_of_another_config_are_refused_and_never_deleted(self, tmp_path, two_steps):
    copy = pathlib.Path(shutil.copytree(two_steps, tmp_path / 'copy'))  # their manifests have none
    save_steps(copy, 300, config='ours')
    assert restore_step(copy)[0] == 300
    with Checkpoints(copy, config='theirs', keep_latest=1) as checkpoints:
      with pytest.raises(CheckpointError, match=r'step 300 .* another config than that of config'):
        checkpoints.restore(SMALL_ABSTRACT)
      assert checkpoints.verified_steps() == [200]
      checkpoints.save(400, SMALL, {})
    assert {path.name for path in copy.iterdir()} == {'300', '400'}
    assert manifest.verify(epath.Path(copy) / '400')['config'] == 'theirs'

  def test_commits_are_announced(self, tmp_path):
    seen = []
    save_steps(tmp_path, 1, 2, on_commit=seen.append)
    assert seen == [1, 2]


class TestRetention:
  def test_latest_and_best_are_kept(self, tmp_path):
    metrics = {1: 0.3, 2: 0.9, 3: float('nan'), 4: 0.5, 5: 0.9, 6: float('inf'), 7: 0.1, 8: 0.2}
    save_steps(tmp_path, *range(1, 9), metrics=metrics, keep_latest=2, keep_best=2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
      assert checkpoints.verified_steps() == [2, 5, 7, 8]
      assert checkpoints.best_step() == 5  # the newest of equals
      assert checkpoints.latest_step() == 8

  def test_without_metrics_only_the_latest_stay(self, tmp_path):
    save_steps(tmp_path, 1, 2, 3, keep_latest=1)
    with Checkpoints(tmp_path) as checkpoints:
      assert checkpoints.verified_steps() == [3]
      assert checkpoints.best_step() is None
    assert [path.name for path in tmp_path.iterdir()] == ['3']

  def test_damaged_steps_do_not_count(self, copy):
    (copy / '200/extra/metadata').unlink()
    save_steps(copy, 300, keep_latest=2)
    with Checkpoints(copy) as checkpoints:
      assert checkpoints.verified_steps() == [100, 300]
    assert (copy / '200').exists()

  def test_nothing_is_deleted_before_the_new_step_is_verified(self, copy, monkeypatch):
    """Fails each background stage of a save: the previous step stays good."""

    def fail(*_, **__):
      raise OSError('stage fails')

    for stage in ('fingerprints', 'encode'):
      with Checkpoints(copy, keep_latest=1) as checkpoints, monkeypatch.context() as patch:
        patch.setattr(manifest, stage, fail)
        checkpoints.save(300, SMALL, {})
        with pytest.raises(SaveError, match='step 300'):
          checkpoints.wait()
      assert restore_step(copy) == (200, {})
      assert {path.name for path in copy.iterdir()} == {'100', '200'}

  @pytest.mark.parametrize('options', [{'keep_latest': 0}, {'keep_best': -1}])
  def test_nonsense_is_refused(self, tmp_path, options):
    with pytest.raises(ValueError, match='keep_latest'):
      Checkpoints(tmp_path, **options)


class TestErrors:
  @pytest.fixture
  def failing(self, copy, monkeypatch):
    """Checkpoints with a save of step 300 that fails in the background."""

    def fail_once(_):
      monkeypatch.undo()
      raise RuntimeError('the disk is on fire')

    checkpoints = Checkpoints(copy)
    monkeypatch.setattr(manifest, 'fingerprints', fail_once)
    checkpoints.save(300, SMALL, {})
    return checkpoints

  @pytest.mark.parametrize(
    'act',
    [
      Checkpoints.wait,
      Checkpoints.close,
      Checkpoints.verified_steps,
      lambda checkpoints: checkpoints.save(400, SMALL, {}),
    ],
  )
  def test_background_errors_surface_once(self, failing, act):
    with pytest.raises(
      SaveError, match=r'saving step 300 .*on fire.*last good step is 200'
    ) as raised:
      act(failing)
    assert isinstance(raised.value, OSError)
    assert isinstance(raised.value, UserError)
    assert isinstance(raised.value.__cause__, RuntimeError)
    failing.close()

  def test_an_exception_under_way_is_not_replaced(self, failing):
    with pytest.raises(ZeroDivisionError), failing:
      raise ZeroDivisionError
    failing.close()  # closing twice is harmless

  def test_unsuitable_arguments(self, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
      with pytest.raises(TypeError, match=r"'a/0' must be a jax.Array, got float"):
        checkpoints.save(1, {'a': [1.0]}, {})
      with pytest.raises(TypeError, match='float32 is not JSON'):
        checkpoints.save(1, SMALL, {'metrics': {'val/accuracy': np.float32(1)}})
      assert checkpoints.verified_steps() == []

  def test_full_disk(self, tmp_path, capfd):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(disk)]
    if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
      pytest.skip('cannot mount a small tmpfs here')
    try:
      with Checkpoints(disk) as checkpoints:
        checkpoints.save(100, {'w': jnp.arange(8.0) + 100}, {})
        noise = jax.random.normal(jax.random.key(0), (1 << 21,))  # 8 MB, hardly compressible
        with pytest.raises(SaveError, match=rf'step 200 in {disk}.* last good step is 100'):
          save_and_wait(checkpoints, 200, {'w': noise})
        # The space is free again, and the object still works. Orbax printed no traces.
        assert 'Traceback' not in ''.join(capfd.readouterr())
        checkpoints.save(300, {'w': jnp.arange(8.0) + 300}, {})
        assert checkpoints.verified_steps() == [100, 300]
      assert restore_step(disk) == (300, {})
    finally:
      subprocess.run(['umount', str(disk)], check=True)


def test_orbax_progress_is_not_logged_and_the_filter_goes(tmp_path, caplog):
  logger = logging.get_absl_logger()
  filters = list(logger.filters)
  level = logger.level
  logger.addHandler(caplog.handler)
  logger.setLevel('INFO')
  try:
    with Checkpoints(tmp_path) as checkpoints:
      logging.info('ours')
      checkpoints.save(1, SMALL, {})
      checkpoints.wait()
  finally:
    logger.setLevel(level)
    logger.removeHandler(caplog.handler)
  assert {record.getMessage() for record in caplog.records if record.name == 'absl'} == {'ours'}
  assert logger.filters == filters


SAVE_FOR_EVER = """
import itertools, sys
import jax, jax.numpy as jnp
jax.config.update('jax_platforms', 'cpu')
from scs_jax.workdir.checkpoints import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep_latest=1)
for step in itertools.count(int(sys.argv[2])):
  checkpoints.save(step, {'w': jnp.arange(8.0) + step, 'big': jnp.ones(1 << 16) * step}, {})
  print(step, flush=True)
"""


def test_killed_at_any_moment(tmp_path):
  """SIGKILL while steps are saved without pause: the next start restores a whole step."""
  random_ = random.Random(2)
  root = pathlib.Path(__file__).parents[1]
  abstract = {
    **SMALL_ABSTRACT,
    'big': jax.ShapeDtypeStruct((1 << 16,), jnp.float32, sharding=ONE_DEVICE),
  }
  start = 0
  for _ in range(3):
    process = subprocess.Popen(
      [sys.executable, '-c', SAVE_FOR_EVER, str(tmp_path), str(start)],
      stdout=subprocess.PIPE,
      env={**os.environ, 'PYTHONPATH': str(root)},
    )
    for _ in range(random_.randrange(2, 6)):
      started = int(process.stdout.readline())
    time.sleep(random_.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Checkpoints(tmp_path) as checkpoints:
      step, state, _ = checkpoints.restore(abstract)
      assert checkpoints.skipped == {}
    assert started - 1 <= step
    np.testing.assert_array_equal(state['w'], np.arange(8.0) + step)
    np.testing.assert_array_equal(state['big'], np.full(1 << 16, step))
    assert all(path.name.isdecimal() for path in tmp_path.iterdir())
    start = step + 1
