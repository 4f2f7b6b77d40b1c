"""The table of a network: all layers, the numbers of a hand count, and sums that agree."""

import jax
import numpy as np
import pytest
from flax import nnx

import scs_jax
from scs_jax import models, summary
from scs_jax.errors import ArgumentError

pytestmark = pytest.mark.usefixtures('quick_compilation')

SHAPE = (8, 8, 2)
STACK = (
  {'kind': 'scs', 'features': 3, 'window': 3, 'padding': 'VALID'},
  {'kind': 'abs'},
  {'kind': 'scs', 'features': 3, 'window': 1},
  {'kind': 'again', 'layer': 2},
  {'kind': 'pool'},
  {'kind': 'head'},
)
SMALL = {
  'autoencoder': {'widths': (3,), 'code': 2},
  'cct': {'width': 4, 'depth': 1, 'tokeniser': ()},
  'convmixer': {'width': 4, 'depth': 1},
  'densenet': {'layers': (1, 1), 'growth': 2},
  'hukkelas': {'width': 3, 'levels': 1},
  'resnet': {'widths': (3, 4), 'blocks': (1, 1)},
  'scs_net': {'stack': STACK},
}


def build(name, **changes):
  sizes = {'input_shape': SHAPE, 'num_classes': 5, 'rngs': nnx.Rngs(0)}
  return models.build(name, **{**SMALL[name], **changes}, **sizes)


def parameters_of(model):
  return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def test_a_stack_as_counted_by_hand():
  model = build('scs_net', variant='conv')
  rows = {(row.layer, row.kind): row for row in summary.rows(model)}
  conv = rows['scs_0.conv', 'Conv']
  assert conv.output == (6, 6, 3)
  assert conv.parameters == 3 * 3 * 2 * 3
  assert conv.flops == 2 * 36 * 3 * 3 * 2 * 3  # a product and a sum each
  assert conv.p is None
  head = rows['head_5', 'Linear']
  assert (head.output, head.parameters) == ((5,), (27 + 1) * 5)
  assert head.flops == 2 * 27 * 5 + 5  # and the bias


def test_flops_do_not_depend_on_the_values_of_the_weights():
  model = build('scs_net', variant='conv')
  flops = [row.flops for row in summary.rows(model)]
  model.head_5.bias[...] += 1  # zeros before
  assert [row.flops for row in summary.rows(model)] == flops


def test_a_layer_that_is_called_again_has_two_rows_and_is_counted_once():
  rows = summary.rows(build('scs_net'))
  assert [row.layer for row in rows] == ['scs_0', 'scs_2', 'scs_2', 'pool_4', 'head_5']
  assert [row.parameters for row in rows[1:3]] == [3 * 3 + 3 + 1, 0]
  assert rows[1].flops == rows[2].flops


@pytest.mark.parametrize('variant', models.parts.VARIANTS)
@pytest.mark.parametrize('name', models.MODELS)
def test_every_architecture_has_a_table_whose_sums_agree(name, variant):
  model = build(name, variant=variant)
  rows = summary.rows(model)
  assert sum(row.parameters for row in rows) == parameters_of(model)
  assert all(row.output is not None for row in rows)
  scs = [row for row in rows if row.kind == 'SharpenedCosineSimilarity']
  assert bool(scs) == (variant == 'scs')
  assert all(row.p is not None and row.q is not None and (row.flops or 0) > 0 for row in scs)


def test_p_and_q_are_those_of_now():
  model = build('scs_net')
  model.scs_0.raw_p[...] = np.array([0.0, 1.0, 2.0], np.float32)
  model.scs_0.raw_q[...] = np.float32(0)
  first = summary.rows(model)[0]
  np.testing.assert_allclose(first.p, np.log1p(np.exp([0, 1, 2])), rtol=1e-6)
  np.testing.assert_allclose(first.q, np.log(2), rtol=1e-6)
  assert '0.693 to 2.13' in summary.table(model)


def test_the_table_is_aligned_and_leaves_the_network_as_it_was():
  model = build('scs_net', variant='conv')
  before = nnx.graphdef(model)
  text = summary.table(model)
  assert nnx.graphdef(model) == before
  assert type(model.head_5) is nnx.Linear
  heading, *lines = text.split('\n\n')[0].splitlines()
  end = heading.index('parameters') + len('parameters')
  assert all(line[end - 1].isdigit() and line[end : end + 2] == '  ' for line in lines)
  assert f'{parameters_of(model):,} parameters and 12 statistics; ' in text.splitlines()[-1]


class Own(nnx.Module):
  """A network of a user, with parameters of its own, arguments that are no arrays, and a spare."""

  def __init__(self, rngs):
    self.shift = nnx.Param(np.zeros(2, np.float32))
    self.layer = scs_jax.nnx.SharpenedCosineSimilarity(2, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)
    self.spare = nnx.Linear(4, 7, rngs=rngs)

  def __call__(self, x):
    x = self.layer(x + self.shift[...].reshape(1, 1, 1, 2))
    return self.norm(x, use_running_average=True).mean((1, 2))


def test_a_network_of_ones_own():
  own = Own(nnx.Rngs(0))
  with pytest.raises(ArgumentError, match='pass input_shape'):
    summary.table(own)
  rows = {row.layer: row for row in summary.rows(own, SHAPE)}
  assert sum(row.parameters for row in rows.values()) == parameters_of(own)
  assert rows['(network)'].parameters == 2
  assert (rows['spare'].output, rows['spare'].flops) == (None, None)
  assert 'spare' in summary.table(own, SHAPE)
