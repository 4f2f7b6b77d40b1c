"""Every process gets the result of process 0, or raises its error."""

import pytest

from scs_jax.errors import ArgumentError
from scs_jax.workdir import CheckpointError, SaveError, processes


@pytest.fixture
def two_processes(monkeypatch):
  """Plays both processes in this one: what process 0 broadcasts, process 1 receives."""
  sent = []

  def broadcast(value):
    if processes.jax.process_index() == 0:
      sent.append(value)
    return sent[-1]

  def run(function):
    outcomes = []
    for index in range(2):
      monkeypatch.setattr(processes.jax, 'process_index', lambda index=index: index)
      try:
        outcomes.append(processes.on_process_zero(function if index == 0 else pytest.fail))
      except Exception as error:
        outcomes.append(error)
    return outcomes

  monkeypatch.setattr(processes.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(processes, 'broadcast', broadcast)
  return run


def test_both_return_the_result(two_processes):
  assert two_processes(lambda: {'steps': [1, 2]}) == [{'steps': [1, 2]}] * 2


@pytest.mark.parametrize('kind', [SaveError, CheckpointError, ArgumentError, ValueError])
def test_both_raise_the_same_kind(two_processes, kind):
  def fail():
    raise kind('what happened')

  errors = two_processes(fail)
  assert [type(error) for error in errors] == [kind, kind]
  assert [str(error) for error in errors] == ['what happened', 'what happened']


def test_an_unexpected_error_arrives_as_a_checkpoint_error(two_processes):
  first, second = two_processes(lambda: [][0])
  assert type(first) is IndexError
  assert type(second) is CheckpointError
  assert str(second) == str(first)


def test_one_process_calls_the_function():
  value = object()
  assert processes.on_process_zero(lambda: value) is value
