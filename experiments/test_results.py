"""Results: a run that was stopped has none; changes of a config have known keys and right types."""

import json
import os
import pathlib
import signal

import pytest

from experiments.results import (
  Trial,
  add_missing,
  append,
  newest,
  percent,
  read,
  results_file,
  run,
  with_key,
  write_between,
)
from scs_jax.errors import ArgumentError
from scs_jax.workdir import metric_log

CHANGES = {
  'data.train_split': 'train[:64]',
  'data.eval_split': 'test[:10]',
  'batch_size': 16,
  'total_epochs': 2.0,
  'eval_every_epochs': 1,
}


def test_a_stopped_run_has_no_result_and_resumes(quick_compilation, monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # set already, see conftest.py
  trial = Trial('configs/quickstart.py', 0, CHANGES)
  results = tmp_path / 'results.jsonl'
  make = lambda: run(trial, tmp_path / 'run')

  write = metric_log.MetricLog.write

  def stop_at_the_first_evaluation(log, step, row):
    write(log, step, row)
    if 'val/accuracy' in row:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patched:
    patched.setattr(metric_log.MetricLog, 'write', stop_at_the_first_evaluation)
    with pytest.raises(SystemExit, match='stopped before its end; run the same command again'):
      add_missing(results, {'seed': 0}, make)
  assert read(results) == []
  add_missing(results, {'seed': 0}, make)
  (line,) = read(results)
  assert line['epochs'] == 2.0
  assert 0 <= line['accuracy'] <= 1
  assert line['parameters'] == 2992
  add_missing(results, {'seed': 0}, lambda: pytest.fail('it is done'))


def test_what_two_processes_made_is_there_once(tmp_path):
  results = tmp_path / 'results.jsonl'

  def make():  # while this one trains, another one is first
    add_missing(results, {'seed': 0}, lambda: {'accuracy': 0.9})
    return {'accuracy': 0.8}

  add_missing(results, {'seed': 0}, make)
  (line,) = read(results)
  assert line['accuracy'] == 0.9
  assert {'commit', 'machine', 'versions'} < set(line)


def test_a_line_has_key_values_and_origin(tmp_path):
  results = tmp_path / 'folder' / 'results.jsonl'
  append(results, {'network': 'a', 'sizes': (1, 2)}, {'rate': 1.0})
  append(results, {'network': 'b', 'sizes': (1, 2)}, {'rate': 2.0})
  append(results, {'network': 'a', 'sizes': (1, 2)}, {'rate': 3.0})
  lines = read(results)
  assert list(lines[0]) == ['network', 'sizes', 'rate', 'commit', 'machine', 'versions']
  assert [line['rate'] for line in with_key(lines, {'network': 'a', 'sizes': (1, 2)})] == [1, 3]
  assert [line['rate'] for line in newest(lines, 'network', 'sizes')] == [3.0, 2.0]


def test_a_line_that_was_cut_off_is_named(tmp_path):
  results = tmp_path / 'results.jsonl'
  results.write_text('{"seed": 0}\n{"seed": 1, "accu')
  with pytest.raises(ValueError, match=r'results.jsonl, line 2, is not JSON'):
    add_missing(results, {'seed': 2}, lambda: pytest.fail('the line would be lost'))


def test_results_go_to_the_workdir_unless_told_otherwise(tmp_path):
  assert results_file(None, str(tmp_path)) == tmp_path / 'results.jsonl'
  assert results_file(None, str(tmp_path), 'trials.jsonl') == tmp_path / 'trials.jsonl'
  assert results_file('here.jsonl', str(tmp_path)) == pathlib.Path('here.jsonl')
  with pytest.raises(ValueError, match="--workdir is ''"):
    results_file('here.jsonl', '')


def test_the_spread_is_that_of_a_sample():
  assert percent([0.88, 0.9]) == '89.0 ± 1.4 %'
  assert percent([0.88], digits=2) == '88.00 %'


def test_only_the_text_between_the_marks_is_replaced(tmp_path):
  readme = tmp_path / 'README.md'
  readme.write_text('before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n')
  write_between(readme, 'a', 'new')
  assert readme.read_text() == 'before\n<!-- a -->\nnew\n<!-- end of a -->\nafter\n'
  with pytest.raises(ValueError, match='lacks <!-- b -->'):
    write_between(readme, 'b', 'new')


def test_changes_take_the_type_of_their_key():
  changes = {'total_epochs': 24, 'augment.scale': [0.9, 1.1], 'ema_decay': None}
  config = Trial('configs/quickstart.py', 0, changes).load()
  assert (config.total_epochs, config.augment.scale, config.ema_decay) == (24.0, (0.9, 1.1), None)
  assert isinstance(config.total_epochs, float)
  with pytest.raises(ArgumentError, match="total_epochs must be a number, got 'eight'"):
    Trial('configs/quickstart.py', 0, {'total_epochs': 'eight'}).load()


def test_a_trial_has_one_seed_and_a_config_file():
  config = Trial('configs/gallery.py:mnist_smoke', 3, {'total_epochs': 24}).load()
  assert (config.seed, config.total_epochs) == (3, 24.0)
  with pytest.raises(ArgumentError, match='seed cannot be changed'):
    Trial('configs/quickstart.py', 0, {'seed': 3}).load()
  with pytest.raises(ArgumentError, match='configs/nothing cannot be read: there is no such file'):
    Trial('configs/nothing', 0).load()


def test_changes_of_a_line_are_those_of_its_trial():
  trial = Trial('configs/quickstart.py', 0, {'augment.scale': (0.9, 1.1)})
  line = json.loads(json.dumps({'changes': dict(trial.changes)}))
  assert Trial('configs/quickstart.py', 0, line['changes']).load() == trial.load()
