"""A part of the table `bad_inputs`, in a process of its own because it parses flags."""

import json
import subprocess
import sys

from experiments.results import ROOT


def test_bad_inputs_are_answered_by_one_line():
  command = [sys.executable, '-m', 'experiments.faults.bad_inputs', '4']  # one in four of a kind
  run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert run.stdout, run.stderr
  result = json.loads(run.stdout)
  assert result['not answered well'] == {}
  assert result['inputs'] >= 140
