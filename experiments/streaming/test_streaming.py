"""The table of the page."""

from experiments.results import read
from experiments.streaming import __main__ as streaming


def test_the_readme_has_the_table_of_the_results():
  table = streaming.table(read(streaming.RESULTS))
  assert table in (streaming.HERE / 'README.md').read_text()
