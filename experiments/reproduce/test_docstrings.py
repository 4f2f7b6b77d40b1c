"""Every expected accuracy in a config's docstring is what results.jsonl gives for its row."""

import ast
import pathlib
import re

import pytest

from experiments.reproduce.rows import ROWS, lines_of
from experiments.results import percent, read

HERE = pathlib.Path(__file__).parent
CONFIGS = HERE.parent.parent / 'configs'
# The configs that state accuracies of rows. ImageNet has no row.
NAMES = ('cifar10', 'fashion_mnist', 'gallery', 'mnist', 'quickstart', 'records')
_FIGURE = re.compile(r'(\d+\.\d+(?: ± \d+\.\d+)? %) \(row ([\w.]+)\)')


def figures(text: str) -> list[tuple[str, str]]:
  """Returns each figure of a text with the row that it names: ('99.22 ± 0.07 %', 'mnist_3000').

  Raises:
    ValueError: the text names a row without a figure before it.
  """
  text = ' '.join(text.split())  # a figure may be split over two lines
  found = _FIGURE.findall(text)
  if len(found) != text.count('(row '):
    raise ValueError(f'a row without a figure; the figures that were found: {found}')
  return found


def mistakes(text: str, file: str, results: list[dict]) -> list[str]:
  """Returns a sentence for each figure that `results` do not give, or that is of another file.

  Args:
    text: the docstring of a config.
    file: its path, e.g. 'configs/mnist.py'.
    results: the lines of results.jsonl.
  """
  found = []
  for figure, name in figures(text):
    if name not in ROWS or ROWS[name].config.partition(':')[0] != file:
      found.append(f'{file} says {figure} (row {name}), but has no such row')
      continue
    lines = lines_of(ROWS[name], results)
    measured = percent((line['accuracy'] for line in lines), digits=2) if lines else 'nothing'
    if figure != measured:
      found.append(f'{file} says {figure} (row {name}), but its runs give {measured}')
  return found


def docstring(name: str) -> str:
  """Returns the docstring of a config, without running it."""
  return ast.get_docstring(ast.parse((CONFIGS / f'{name}.py').read_text())) or ''


@pytest.fixture(scope='module')
def results() -> list[dict]:
  return read(HERE / 'results.jsonl')


@pytest.mark.parametrize('name', NAMES)
def test_the_figures_of_a_docstring_are_those_of_their_rows(name, results):
  assert figures(docstring(name))
  assert mistakes(docstring(name), f'configs/{name}.py', results) == []


def test_a_figure_that_is_wrong_is_found(results):
  right = 'Expected: 99.22 ± 0.07 %\n  (row mnist_3000)'
  assert figures(right) == [('99.22 ± 0.07 %', 'mnist_3000')]
  assert mistakes(right, 'configs/mnist.py', results) == []
  for old, new, message in (
    ('99.22', '99.23', 'give 99.22 ± 0.07 %'),
    ('0.07', '0.06', 'give 99.22 ± 0.07 %'),
    (' ± 0.07', '', 'give 99.22 ± 0.07 %'),
    ('mnist_3000', 'mnist_1400', 'give 99.17 ± 0.10 %'),
    ('mnist_3000', 'mnist_2999', 'no such row'),
  ):
    (sentence,) = mistakes(right.replace(old, new), 'configs/mnist.py', results)
    assert message in sentence
  assert 'no such row' in mistakes(right, 'configs/gallery.py', results)[0]
  assert 'give nothing' in mistakes(right, 'configs/mnist.py', [])[0]


@pytest.mark.parametrize('text', ['99 % (row mnist_3000)', '99.22 ± 0.07 (row mnist_3000)'])
def test_a_row_without_its_figure_is_an_error(text):
  with pytest.raises(ValueError, match='row without a figure'):
    figures(text)
