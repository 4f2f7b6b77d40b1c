"""Flags: seeds and changes are parsed, and what is wrong with them is one line."""

import subprocess
import sys

import pytest
from absl import flags as absl_flags

from experiments import flags
from experiments.results import ROOT


@pytest.fixture
def parse(load):
  """Parses words into the four shared flags."""
  holders = {
    'workdir': flags.workdir(),
    'results': flags.results(),
    'seeds': flags.seeds('0-4'),
    'changes': flags.changes(),
  }

  def parse(*words):
    absl_flags.FLAGS.unparse_flags()
    absl_flags.FLAGS(['command', '--workdir=w', *words])
    return {name: holder.value for name, holder in holders.items()}

  yield parse
  for name in ('workdir', 'results', 'seeds', 'change'):
    if name in absl_flags.FLAGS:
      delattr(absl_flags.FLAGS, name)


def test_flags_have_defaults(parse):
  assert parse() == {'workdir': 'w', 'results': None, 'seeds': (0, 1, 2, 3, 4), 'changes': {}}


@pytest.mark.parametrize(
  ('text', 'seeds'),
  [('0-4', (0, 1, 2, 3, 4)), ('0,2', (0, 2)), ('7', (7,)), ('0-1,5,1', (0, 1, 5))],
)
def test_seeds(parse, text, seeds):
  assert parse(f'--seeds={text}')['seeds'] == seeds


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('4-0', 'the range 4-0 is empty: write 0-4'),
    ('-1', 'seeds are written like 0-4 or 0,2'),
    ('', 'seeds are written like 0-4 or 0,2'),
    ('0-', 'seeds are written like 0-4 or 0,2'),
    ('two', 'seeds are written like 0-4 or 0,2'),
  ],
)
def test_no_seed_is_an_error(parse, text, said):
  with pytest.raises(absl_flags.IllegalFlagValueError, match=said):
    parse(f'--seeds={text}')


def test_changes_are_merged(parse):
  words = ('--change=total_epochs=24', '--change=model.p_mode=fixed', '--change=a.b=(1, 2)')
  expected = {'total_epochs': 24, 'model.p_mode': 'fixed', 'a.b': (1, 2)}
  assert parse(*words)['changes'] == expected
  assert parse('--change=ema_decay=None')['changes'] == {'ema_decay': None}
  with pytest.raises(absl_flags.IllegalFlagValueError, match='a change is written KEY=VALUE'):
    parse('--change=total_epochs')


def test_errors_are_one_line(tmp_path):
  program = tmp_path / 'command.py'
  program.write_text(
    'from experiments import flags\n'
    'from experiments.results import Trial\n'
    'change, workdir = flags.changes(), flags.workdir()\n'
    "main = lambda _: Trial('configs/quickstart.py', 0, change.value).load()\n"
    'flags.run(main)\n'
  )

  def errors(*words):
    command = [sys.executable, str(program), *words]
    run = subprocess.run(command, capture_output=True, text=True, env={'PYTHONPATH': str(ROOT)})
    assert run.returncode != 0
    assert 'Traceback' not in run.stderr
    return run.stderr

  assert errors('--workdir=w', '--change=total_epoch=3') == (
    "error: the config has no key 'total_epoch'; the nearest is 'total_epochs'\n"
  )
  assert 'a change is written KEY=VALUE' in errors('--workdir=w', '--change=total_epoch')
  assert 'Flag --workdir must have a value other than None' in errors()
