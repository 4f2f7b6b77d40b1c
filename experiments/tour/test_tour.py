"""The notebook of the tour has the cells of its source, and the source runs to its end."""

import json
import re
import runpy

import jax
import matplotlib.pyplot as plt
import pytest

from experiments.results import ROOT

FOLDER = ROOT / 'experiments' / 'tour'
SOURCE = (FOLDER / 'tour.py').read_text()
NOTEBOOK = json.loads((FOLDER / 'tour.ipynb').read_text())


def cells_of_source():
  """Returns kind and text of every cell of the percent format."""
  cells = []
  for cell in re.split(r'^# %%', SOURCE, flags=re.MULTILINE)[1:]:
    if cell.startswith(' [markdown]'):
      cells.append(('markdown', re.fullmatch(r' \[markdown\]\nr"""\n(.*)\n"""\s*', cell, re.S)[1]))
    else:
      cells.append(('code', cell.strip()))
  return cells


def test_the_notebook_has_the_cells_of_its_source():
  assert [(c['cell_type'], ''.join(c['source'])) for c in NOTEBOOK['cells']] == cells_of_source()


def test_the_notebook_ran_once_from_top_to_bottom():
  code = [cell for cell in NOTEBOOK['cells'] if cell['cell_type'] == 'code']
  assert [cell['execution_count'] for cell in code] == list(range(1, len(code) + 1))
  outputs = [output for cell in code for output in cell['outputs']]
  assert not [output for output in outputs if output['output_type'] == 'error']
  assert not [output for output in outputs if output.get('name') == 'stderr']
  assert sum('image/png' in output.get('data', {}) for output in outputs) == 4
  assert (FOLDER / 'tour.ipynb').stat().st_size < 500_000


@pytest.mark.usefixtures('quick_compilation')
def test_the_source_runs_to_its_end(tmp_path, monkeypatch, capsys):
  source, changed = re.subn(r'^EPOCHS = .*', 'EPOCHS = 0.1', SOURCE, flags=re.MULTILINE)
  assert changed == 1
  script = tmp_path / 'tour.py'
  script.write_text(source)
  monkeypatch.setattr('tempfile.mkdtemp', lambda prefix: str(tmp_path / prefix))
  plt.switch_backend('agg')
  with jax.numpy_rank_promotion('allow'):
    names = runpy.run_path(str(script))
  plt.close('all')
  assert abs(names['ours'] - names['theirs']).max() < 1e-5
  assert (names['explanation'].error < 1e-4).all()
  said = capsys.readouterr().out
  assert re.search('contrast / 1024 : .*logits change by at most 0\n', said)
  assert 'same logits from safetensors: True' in said
  assert 'from StableHLO' in said
