"""The quick form of the scenarios: those that show the most in the least time."""

import pytest

from experiments.launch.bed import SSHD, Bed
from experiments.launch.scenarios import SCENARIOS
from experiments.launch.table import HERE, RESULTS, table
from experiments.results import newest, read

# Logins take their time, so only one uses OpenSSH's server, where it is installed.
QUICK = {
  'ssh_is_lost': 'sshd',
  'launcher_is_killed': 'link',
  'preempted': 'link',
  'worker_dies': 'link',
  'arguments_arrive': 'link',
  'other_arguments': 'link',
  'request_fails': 'link',
}


@pytest.mark.parametrize('name', QUICK)
def test_a_launch_ends_as_it_must(name, tmp_path):
  bed = Bed(tmp_path, sshd=QUICK[name] == 'sshd' and SSHD is not None)
  try:
    assert SCENARIOS[name](bed)
  finally:
    bed.close()


def test_the_readme_has_the_table_of_the_results():
  text = (HERE / 'README.md').read_text()
  assert text.split('<!-- table -->\n')[1].split('\n<!-- end of table -->')[0] == table(
    read(RESULTS)
  )


def test_every_scenario_was_tried_and_none_has_failed():
  lines = newest(read(RESULTS), 'scenario', 'parts')
  assert {line['scenario'] for line in lines if line['parts'] == 'sshd'} == set(SCENARIOS)
  assert not any(line['failures'] for line in lines)
