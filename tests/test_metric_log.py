import json
import pathlib

import pytest

from scs_jax.workdir import metric_log
from scs_jax.workdir.metric_log import MetricLog, Rate


def steps(workdir):
  return [json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def test_rows_are_json_and_reach_tensorboard(tmp_path):
  with MetricLog(tmp_path, start=0, total_steps=2) as log:
    log.write(1, {'train/loss': 0.5})
  assert json.loads((tmp_path / 'metrics.jsonl').read_text()) == {'step': 1, 'train/loss': 0.5}
  (events,) = tmp_path.glob('events*')
  assert b'train/loss' in events.read_bytes()


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path):
  with MetricLog(tmp_path, start=0, total_steps=9) as log:
    for step in range(1, 8):
      log.write(step, {'x': 1.0})
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 8, "x"')  # a kill in the middle of a line
  with MetricLog(tmp_path, start=5, total_steps=9) as log:
    log.write(6, {'x': 2.0})
  assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_new_run_starts_with_no_rows(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 3}\n')
  with MetricLog(tmp_path, start=0, total_steps=9):
    pass
  assert steps(tmp_path) == []


def steps_of_parts(folder):
  text = ''.join(path.read_text() for path in sorted(folder.glob('metrics-*.jsonl')))
  return [json.loads(line)['step'] for line in text.splitlines()]


def test_in_an_object_store_rows_go_to_parts_and_nothing_is_appended(tmp_path, monkeypatch):
  monkeypatch.setattr(metric_log, 'ROWS_A_PART', 3)
  original = pathlib.Path.open

  def refuse_appending(self, mode='r', *more, **others):
    assert 'a' not in mode
    return original(self, mode, *more, **others)

  monkeypatch.setattr(pathlib.Path, 'open', refuse_appending)
  with MetricLog(tmp_path, start=0, total_steps=20, in_parts=True) as log:
    for step in range(1, 9):
      log.write(step, {'x': 1.0})
      assert steps_of_parts(tmp_path) == list(range(1, step + 1))
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == [f'metrics-00000{i}.jsonl' for i in range(3)]
  with MetricLog(tmp_path, start=4, total_steps=20, in_parts=True) as log:
    assert steps_of_parts(tmp_path) == [1, 2, 3, 4]
    log.write(5, {'x': 2.0})
    log.rewind(2)
    log.write(3, {'x': 3.0})
  assert steps_of_parts(tmp_path) == [1, 2, 3]


def test_lines_are_said_without_a_terminal(tmp_path, capsys):
  with MetricLog(tmp_path, start=0, total_steps=9) as log:
    log.say('epoch 1')
  assert capsys.readouterr().out == 'epoch 1\n'


def test_the_rate_is_examples_over_seconds(monkeypatch):
  now = [10.0]
  monkeypatch.setattr('scs_jax.workdir.metric_log.time.perf_counter', lambda: now[0])
  rate = Rate()
  rate.count(30)
  now[0] += 2
  assert rate.read() == {'train/images_per_second': pytest.approx(15)}
  rate.restart()
  assert rate.read() == {}
  rate.count(8)
  now[0] += 1
  assert rate.read() == {'train/images_per_second': pytest.approx(8)}
