import contextlib
import json
import os
import pathlib
import random

import pytest

from scs_jax.errors import ArgumentError
from scs_jax.workdir import SaveError, metric_log
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


def write_rows(folder, last=10, **options):
  """Writes rows of steps 1 to `last`; returns what a checkpoint of that step keeps of them."""
  with MetricLog(folder, start=0, total_steps=20, **options) as log:
    for step in range(1, last + 1):
      log.write(step, {'train/loss': 1 / step})
    return log.sync(last)


def resume(folder, rows, start=10, **options):
  with MetricLog(folder, start=start, total_steps=20, rows=rows, **options):
    pass


def test_a_damaged_line_costs_that_line(tmp_path):
  rows = write_rows(tmp_path)
  path, random_ = tmp_path / 'metrics.jsonl', random.Random(0)
  intact = path.read_bytes()
  lines = intact.splitlines(keepends=True)
  for _ in range(60):
    changed = bytearray(intact)
    at = random_.randrange(len(changed))
    changed[at] ^= random_.randrange(1, 256)
    path.write_bytes(changed)
    resume(tmp_path, rows)
    hit = len(intact[: at + 1].splitlines()) - 1
    lost = {hit, hit + 1} if intact[at : at + 1] == b'\n' else {hit}  # it joins two lines
    assert path.read_bytes() == b''.join(line for i, line in enumerate(lines) if i not in lost)
  path.write_bytes(intact[:-1])  # a line that lost its end only is whole
  resume(tmp_path, rows)
  assert path.read_bytes() == intact


def test_what_is_intact_is_not_written_again(tmp_path, monkeypatch):
  rows = write_rows(tmp_path)
  monkeypatch.setattr(metric_log.storage, 'write_whole', None)
  resume(tmp_path, rows)
  assert steps(tmp_path) == list(range(1, 11))


def test_damaged_lines_of_a_run_that_kept_no_digests(tmp_path):
  write_rows(tmp_path)
  path = tmp_path / 'metrics.jsonl'
  lines = path.read_bytes().splitlines(keepends=True)
  lines[3], lines[5], lines[7] = b'{"step": 4, "tr\xff\n', b'[6]\n', b'{"step": "8"}\n'
  path.write_bytes(b''.join(lines))
  resume(tmp_path, None, start=9)
  assert steps(tmp_path) == [1, 2, 3, 5, 7, 9]


def test_rows_that_are_missing_or_foreign_are_refused_with_a_remedy(tmp_path):
  rows = write_rows(tmp_path)
  path = tmp_path / 'metrics.jsonl'
  text = path.read_text()
  path.unlink()
  with pytest.raises(ArgumentError, match=r'metrics.jsonl is missing.* put it back, or make an'):
    resume(tmp_path, rows)
  path.write_text(text.replace('train', 'other'))
  with pytest.raises(ArgumentError, match=r'metrics.jsonl is not of this run: put the right one'):
    resume(tmp_path, rows)
  assert 'other' in path.read_text()
  path.write_text('')  # the remedy
  resume(tmp_path, rows)
  assert steps(tmp_path) == []


def test_a_kill_while_the_file_is_rewritten_leaves_the_old_one(tmp_path, monkeypatch):
  rows = write_rows(tmp_path)

  def kill(_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, 'fsync', kill)
  with pytest.raises(KeyboardInterrupt):
    resume(tmp_path, rows[:5], start=5)
  assert steps(tmp_path) == list(range(1, 11))


def test_a_link_is_not_followed(tmp_path):
  path, target = tmp_path / 'metrics.jsonl', tmp_path / 'target'
  target.write_text('mine')
  with MetricLog(tmp_path, start=0, total_steps=1) as log:
    path.symlink_to(target)
    with pytest.raises(SaveError, match='symbolic links'):
      log.write(1, {'x': 1.0})
    path.unlink()  # the row is written when the log closes
  path.rename(tmp_path / 'rows')
  path.symlink_to(target)
  resume(tmp_path, None, start=0)
  assert target.read_text() == 'mine'


def test_a_pipe_is_not_read(tmp_path):
  os.mkfifo(tmp_path / 'metrics.jsonl')  # reading it would wait for a writer
  with pytest.raises(ArgumentError, match=r'is not a file\. Put the right one back'):
    MetricLog(tmp_path, start=0, total_steps=1)


def test_rows_that_were_removed_fail_the_save(tmp_path):
  with MetricLog(tmp_path, start=0, total_steps=3) as log:
    log.write(1, {'x': 1.0})
    assert len(log.sync(1)) == 1
    (tmp_path / 'metrics.jsonl').unlink()
    with pytest.raises(SaveError, match=r'rows of metrics of step 2 .*metrics.jsonl was removed'):
      log.sync(2)


@pytest.mark.parametrize('keep_going', [False, True])
def test_a_dead_file_is_said_once_and_nothing_is_lost(tmp_path, monkeypatch, capsys, keep_going):
  def fail(*_):
    raise OSError(28, 'No space left on device')

  with MetricLog(tmp_path, start=0, total_steps=9, keep_going=keep_going) as log:
    log.write(1, {'x': 1.0})
    with monkeypatch.context() as patch:
      patch.setattr(os, 'write', fail)
      for step in (2, 3):
        if keep_going:
          log.write(step, {'x': 1.0})
        else:
          with pytest.raises(
            SaveError, match=rf'rows of metrics of step {step} cannot be .*{tmp_path}'
          ):
            log.write(step, {'x': 1.0})
      with pytest.raises(SaveError, match='step 3'):
        log.sync(3)
    assert len(log.sync(3)) == 3
    assert steps(tmp_path) == [1, 2, 3]
  said = capsys.readouterr().out.splitlines()
  assert len(said) == (2 if keep_going else 0)  # the rows, and the events
  assert all('step 2 cannot be written' in line and 'No space left' in line for line in said)


def test_a_full_terminal_log_ends_no_run(tmp_path, monkeypatch):
  with (
    MetricLog(tmp_path, start=0, total_steps=9) as log,
    open('/dev/full', 'w', buffering=1) as full,
  ):
    monkeypatch.setattr('sys.stdout', full)
    log.say('epoch 1')
    monkeypatch.undo()
    with contextlib.suppress(OSError):
      full.close()


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
