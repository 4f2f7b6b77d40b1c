"""The runner of the experiments: a run that was stopped has no result."""

import os
import pathlib
import signal
import sys

import pytest
from config_files import FOLDER

sys.path.insert(0, str(FOLDER.parent / 'experiments'))
from results import Trial, add_missing, percent, read, results_file, run, write_between

from scs_jax.workdir import metric_log

CHANGES = {
  'data.train_split': 'train[:64]',
  'data.eval_split': 'test[:10]',
  'batch_size': 16,
  'total_epochs': 2.0,
  'eval_every_epochs': 1,
}


def test_a_stopped_run_has_no_result_and_goes_on(quick_compilation, monkeypatch, tmp_path):
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
    with pytest.raises(SystemExit, match='stopped before its end; the same command goes on'):
      add_missing(results, {'seed': 0}, make)
  assert read(results) == []
  add_missing(results, {'seed': 0}, make)
  (line,) = read(results)
  assert line['epochs'] == 2.0
  assert 0 <= line['accuracy'] <= 1
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


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
  readme = tmp_path / 'README.md'
  readme.write_text('before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n')
  write_between(readme, 'a', 'new')
  assert readme.read_text() == 'before\n<!-- a -->\nnew\n<!-- end of a -->\nafter\n'
  with pytest.raises(ValueError, match='lacks <!-- b -->'):
    write_between(readme, 'b', 'new')
