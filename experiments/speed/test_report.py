"""The tables of the page, and the floor of a training step."""

import pytest

from experiments.results import read
from experiments.speed import report
from experiments.speed.networks import WithoutBlocks, networks, on_random_images, settings


@pytest.mark.parametrize('table', report.TEXTS)
def test_the_readme_has_the_table_of_the_results(table):
  text = (report.HERE / 'README.md').read_text()
  shown = text.split(f'<!-- {table} -->\n')[1].split(f'\n<!-- end of {table} -->')[0]
  assert shown == report.TEXTS[table](read(report.RESULTS))


def test_only_the_newest_line_of_a_layer_is_shown():
  line = next(line for line in read(report.RESULTS) if line['table'] == 'pool')
  faster = {**line, 'seconds': {'abs_max_pool': 0.001, 'max_pool': 0.002}}
  assert report.pool([line, faster]) == report.pool([faster])
  assert '| 1.0 | 2.0 | 0.50 |' in report.pool([faster])


def test_the_floor_keeps_the_convolutions_of_the_twin_and_drops_its_normalisation():
  image, model = networks()['MNIST, 1,233 parameters']
  twin = settings({**model, 'variant': 'conv'}, batch_size=2)
  whole = on_random_images(twin, image).state_shapes
  floor = on_random_images(twin, image, WithoutBlocks).state_shapes
  assert not floor.statistics
  for name, layer in floor.params.items():
    if name.startswith('head'):
      assert layer == whole.params[name]
    else:
      assert layer == whole.params[name]['conv']
