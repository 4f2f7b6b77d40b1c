"""What `--config` names is loaded, or one line says which file and line is wrong."""

import json

import pytest

from scs_jax.errors import ArgumentError
from scs_jax.train import Experiment, config_file
from scs_jax.train.config import default, to_json
from scs_jax.workdir import buckets

BEGIN = 'from scs_jax.train.config import default\n\n\ndef get_config(widths="4"):\n'
GOOD = f'{BEGIN}  config = default("resnet")\n  config.model.widths = (int(widths),)\n'


@pytest.fixture
def load(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)

  def load(text, argument='', name='mine.py'):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return config_file.load(f'{name}{argument}')

  return load


def test_a_file_is_loaded_with_and_without_argument(load):
  text = f'{GOOD}  config.eval_every_epochs = 1\n  return config\n'
  assert load(text).model.widths == (4,)
  config = load(text, ':8')
  assert config.model.widths == (8,)
  assert config.eval_every_epochs == 1.0
  assert config.is_locked


def test_a_file_may_define_dataclasses_and_be_unlocked(load):
  text = 'import dataclasses\n@dataclasses.dataclass\nclass A:\n  x: int = 3\n'
  assert load(f'{text}{GOOD}  return config.unlock()\n').is_locked


def test_the_json_of_a_workdir_is_loaded(load, tmp_path):
  config = load(f'{GOOD}  return config\n')
  assert load(to_json(config), name='config.json') == config
  old = json.loads(to_json(config))
  del old['seed']  # version 0.1.0 may have lacked a key
  assert load(json.dumps(old), name='config.json').seed == 0
  assert config_file.load(f'{tmp_path}/config.json') == config


@pytest.mark.parametrize(
  ('body', 'said'),
  [
    ('  x = (\n', 'mine.py, line 5: SyntaxError'),
    ('  x = 1\n\treturn x\n', 'mine.py, line 6: TabError'),
    ('  config = default("resnt")\n', "mine.py, line 5: unknown model 'resnt'; did you mean"),
    ('  config = default()\n  config.sed = 3\n', "line 6: the config has no key 'sed'; did you"),
    ('  config = default()\n  config.lr\n', "line 6: the config has no key 'lr'; --help lists all"),
    ('  default().optimizr\n', "line 5: the config has no key 'optimizr'; .*--help lists all"),
    ('  default().batch_size = "x"\n', "line 5: TypeError: .*'batch_size'.* x .*int"),
    ('  return helper()\ndef helper():\n  {}["a"]\n', "line 7: KeyError: 'a'"),
    ('  raise SystemExit(3)\n', 'line 5: SystemExit: 3'),
    ('  raise ValueError("a\\nb" + 1000 * "c")\n', r'line 5: ValueError: a bc{200,290}…$'),
    ('  return default("resnet").to_dict()\n', 'mine.py: a config is what .* returns, got {'),
    ('  pass\n', 'mine.py: a config is what .* returns, got None'),
    ('  c = default("resnet").unlock()\n  del c.seed\n  return c\n', 'mine.py: .* lacks seed'),
  ],
)
def test_what_a_file_raises_is_told_with_its_line(load, body, said):
  with pytest.raises(ArgumentError, match=f'^--config=.*{said}') as info:
    load(BEGIN + body)
  assert '\n' not in str(info.value)


@pytest.mark.parametrize(
  ('text', 'argument', 'said'),
  [
    ('x = 1 / 0\n', '', 'line 1: ZeroDivisionError'),
    ('import nothing_there\n', '', "line 1: .*No module named 'nothing_there'"),
    ('x = 3\n', '', r'has no function get_config\(\)'),
    ('def get_config(): pass\n', ':a', 'leave the colon and what follows out'),
    ('def get_config(a): pass\n', '', "'a'; write mine.py:ARGUMENT"),
    (b'x = "\xff"\n', '', 'SyntaxError'),
    (b'x = 1\0\n', '', 'null bytes'),
  ],
)
def test_a_file_without_a_config_is_told_what_it_lacks(load, text, argument, said):
  with pytest.raises(ArgumentError, match=said):
    load(text, argument)


def test_an_absent_file_is_told_the_nearest(load, tmp_path):
  load(f'{GOOD}  return config\n')
  for given in ('mien.py', f'{tmp_path}/mien.py', 'mine.py/config.json'):
    with pytest.raises(ArgumentError, match=f'--config={given} cannot be read'):
      config_file.load(given)
  with pytest.raises(ArgumentError, match="unknown config 'mine'; known: cifar10"):
    config_file.load('mine')
  with pytest.raises(ArgumentError, match=r"no such file; did you mean 'mine\.py'\?"):
    config_file.load('mien.py')
  with pytest.raises(ArgumentError, match='is a folder: name its config'):
    config_file.load(str(tmp_path))


def test_a_bucket_that_does_not_answer_is_told(monkeypatch):
  monkeypatch.setenv('STORAGE_EMULATOR_HOST', 'http://127.0.0.1:1')
  monkeypatch.setattr(buckets, 'limits', lambda: {'timeout': 1, 'retry': None})
  with pytest.raises(ArgumentError, match=r'^--config gs://b/config\.json cannot be reached'):
    config_file.load('gs://b/config.json')
  config = default('resnet')
  config.data.update(name='mnist', data_dir='gs://b/tfds')
  with pytest.raises(ArgumentError, match=r'^data\.data_dir gs://b/tfds cannot be reached; check'):
    _ = Experiment(config).eval_set


def test_an_error_in_an_imported_file_is_told_with_both_places(load, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'helper_of_mine.py').write_text('def f():\n  return (\n')
  with pytest.raises(ArgumentError, match=r'mine\.py, line 1: SyntaxError.*helper_of_mine\.py'):
    load('import helper_of_mine\n')
