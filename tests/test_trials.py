"""The runner of the experiments: a run that was stopped has no result."""

import os
import signal
import sys

import pytest
from config_files import FOLDER

sys.path.insert(0, str(FOLDER.parent / 'experiments'))
from trials import Trial, add_missing, read, run

from scs_jax import metric_log

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
