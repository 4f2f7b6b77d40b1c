"""Every map has an inverse, and is put back after its run; the table says what diverged."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parametrisation.table import table
from scs_jax import train
from scs_jax.layers import parameters


def test_every_map_has_an_inverse_and_is_put_back(load, monkeypatch, tmp_path):
  command = load('experiments.parametrisation.__main__')
  values, seen = jnp.array([0.1, 1.0, 2.0]), []

  def run(trial, folder):
    np.testing.assert_allclose(parameters.positive(parameters.raw(values)), values, rtol=1e-5)
    seen.append(parameters.positive)
    if len(seen) == 1:
      raise train.NonFiniteError('diverged')
    return {'accuracy': 0.5}

  monkeypatch.setattr(command, 'run', run)
  before = parameters.positive
  lines = [command.outcome(name, None, tmp_path) for name in command.MAPS]
  assert lines == [{'accuracy': None, 'error': 'diverged'}] + 4 * [{'accuracy': 0.5}]
  assert len(set(seen)) == 5
  assert parameters.positive is before


@pytest.mark.parametrize(
  ('accuracies', 'row'),
  [
    ([0.97, 0.98], '| exp | 97.50 % | 97.0, 98.0 |'),
    ([0.97, None], '| exp | 97.00 % | 97.0, diverged |'),
    ([None], '| exp |  | diverged |'),
  ],
)
def test_the_table(accuracies, row):
  assert table([{'map': 'exp', 'accuracy': x} for x in accuracies]).splitlines()[-1] == row
