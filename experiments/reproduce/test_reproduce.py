"""Rows find their runs, one program trains as the loop does, mirror images vote."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import scs_jax
from experiments import results
from experiments.reproduce import mirrored, on_device, table
from experiments.reproduce.rows import ROWS, Published, Row, lines_of
from scs_jax import train
from scs_jax.data import Examples


def test_an_image_and_its_mirror_image_vote_together():
  """A network that looks for brightness on the left alone is right about one of the two."""
  images = np.zeros((3, 2, 4, 1), np.uint8)
  images[0, :, 0], images[1, :, 3] = 200, 200
  left = lambda x: jnp.stack([x[:, :, :2].sum((1, 2, 3)), jnp.full(len(x), 0.5)], -1)
  examples = Examples(images, np.array([0, 0, 1], np.int32), 2)
  assert mirrored.accuracy(left, examples) == 1.0
  assert (left(images / 255).argmax(-1) == examples.labels).mean() < 1


def test_one_program_trains_as_the_loop_does(quick_compilation, monkeypatch, tmp_path):
  """With order, augmentation, schedule and average; the loop's eight devices round differently."""
  changes = {
    'data.name': 'fake',
    'total_epochs': 1.1,
    'batch_size': 32,
    'ema_decay': 0.9,
    'augment.flip': True,
    'augment.shift': 2,
    'augment.cutout': 4,
  }
  trial = results.Trial('configs/gallery.py:mnist_smoke', 3, changes)
  config, home = trial.load(), tmp_path / 'one'
  line = on_device.run(trial, home)
  loop = train.train_and_evaluate(config, str(tmp_path / 'loop'))
  evaluated = train.evaluate_checkpoint(config, str(home))
  assert evaluated == {
    'step': 18,
    'val/accuracy': line['accuracy'],
    'val/loss': pytest.approx(loop['val/loss'], 1e-4),
  }
  one, other = (
    nnx.to_pure_dict(nnx.state(scs_jax.load(path), nnx.Param)) for path in (home, tmp_path / 'loop')
  )
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), one, other)
  with pytest.raises(SystemExit, match='holds a checkpoint'):
    on_device.run(trial, home)
  # A process that was stopped before it wrote its line finds what it trained.
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # set already, see conftest.py
  again = results.run(trial, home)
  assert (again['accuracy'], again['images_per_second']) == (
    line['accuracy'],
    line['images_per_second'],
  )


def test_a_row_shows_what_it_measures():
  published = (Published('gallery', 0.9),)
  row = Row('task', published, 7, 'configs/mnist.py', 2, measure='mirrored_accuracy')
  line = {'config': 'configs/mnist.py', 'changes': {}, 'accuracy': 0.5}
  lines = [{**line, 'seed': 0}, {**line, 'seed': 1, 'mirrored_accuracy': 0.75}]
  assert [found['accuracy'] for found in lines_of(row, lines)] == [0.75]


def test_every_row_but_the_quickstart_has_all_its_runs():
  lines = results.read(table.HERE / 'results.jsonl')
  missing = [name for name, row in ROWS.items() if len(lines_of(row, lines)) < row.seeds]
  assert set(missing) <= {'quickstart'}


def test_every_row_changes_keys_that_its_config_has():
  for row in ROWS.values():
    results.Trial(row.config, 0, row.changes).load()


def test_the_table_says_what_is_no_scs_network_and_what_is_one_run():
  row = next(iter(row for row in ROWS.values() if row.seeds == 1))
  lines = [
    {
      **dataclasses.asdict(results.Trial(row.config, 0, row.changes)),
      'accuracy': 0.5,
      'parameters': row.parameters,
      'machine': '1 CPU cores',
      'training_seconds': 600,
    }
  ]
  text = table.table(lines)
  assert '| 50.00 % | one run |' in text
  assert '| record to beat, not SCS: ConvMixer-128/4, 103,000 parameters, 91.26 % |' in text
  assert '| nothing: the task is ours | not run | 0 of 5 |' in text


def test_a_row_is_run_and_its_line_is_written(load, quick_compilation, monkeypatch, tmp_path):
  command = load('experiments.reproduce.__main__')
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # as conftest.py has set it
  changes = {'data.name': 'fake', 'total_epochs': 0.5, 'augment.flip': True, 'batch_size': 64}
  row = Row('task', (), 1233, 'configs/gallery.py:mnist_smoke', 2, changes)
  monkeypatch.setitem(command.ROWS, 'mnist_smoke', row)
  words = ['reproduce', '--row=mnist_smoke', f'--workdir={tmp_path}', '--seeds=1']
  command.absl_flags.FLAGS(words)
  command.main(words)
  (line,) = results.read(tmp_path / 'results.jsonl')
  assert (line['row'], line['seed'], line['evaluated_on']) == ('mnist_smoke', 1, 'fake test')
  assert 0 <= line['mirrored_accuracy'] <= 1
  assert (tmp_path / 'mnist_smoke' / '1' / 'checkpoints').is_dir()
