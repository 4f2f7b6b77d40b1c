"""What the table names is there."""

import re

from experiments.results import ROOT
from scs_jax.train.keys import KEYS

TEXT = (ROOT / 'experiments/peers/README.md').read_text()


def test_every_test_and_file_that_the_table_names_exists():
  named = re.findall(r'`((?:tests|scs_jax|experiments)/[\w/]+\.py)(?:::(\w+))?`', TEXT)
  assert len(named) > 30
  for file, test in named:
    source = (ROOT / file).read_text()
    assert not test or f'\ndef {test}(' in source, f'{file}::{test}'


def test_every_key_that_the_table_names_exists():
  named = set(re.findall(r'--config\.([\w.]+)=', TEXT))
  assert len(named) > 4
  assert named <= set(KEYS)


def test_every_row_has_an_answer():
  rows = [line.strip('| ').split(' | ') for line in TEXT.splitlines() if line.startswith('| ')]
  answers = [(row[0], row[-2], row[-1]) for row in rows if row[-2] != 'here']
  assert len(answers) >= 57
  for feature, answer, reason in answers:
    assert answer in ('yes', 'part', 'no'), feature
    assert len(reason) >= 4, feature
