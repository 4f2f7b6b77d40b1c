"""Times the explorer in a headless browser, and takes its picture.

python -m experiments.explorer --workdir=DIR

Trains the quickstart, which takes two minutes, and writes its page. Needs Chromium.
"""

import dataclasses
import json
import pathlib
import re
import shutil
import statistics
import subprocess

from experiments import flags
from experiments.results import Trial, add_missing, results_file, run
from scs_jax import explorer
from scs_jax.errors import ArgumentError

TRIAL = Trial('configs/quickstart.py', 0)
WORKDIR = flags.workdir()
RESULTS = flags.results()

# Shows the samples in turn. A time has all that the page does until it could be painted; the first
# is that of the picture with which the page opens, when its scripts are not compiled yet.
MEASURE = """<script>
const times = Array.from({ length: 101 }, (_, i) => {
  const start = performance.now();
  byId('samples').children[i % network.samples.length].click();
  update();
  document.body.getBoundingClientRect(); // the layout
  return performance.now() - start;
});
document.title = JSON.stringify(times);
</script>"""
CHOOSE = "<script>byId('samples').children[4].click();</script>"


def main(_: list[str]) -> None:
  """Trains, measures, and takes the picture."""
  results = results_file(RESULTS.value, WORKDIR.value)
  add_missing(results, dataclasses.asdict(TRIAL), lambda: measure(results.parent))


def measure(folder: pathlib.Path) -> dict[str, float]:
  """Returns times in milliseconds; writes `explorer.png` into the folder."""
  workdir = pathlib.Path(WORKDIR.value, 'quickstart')
  run(TRIAL, workdir)
  page = pathlib.Path(explorer.write(workdir)).read_text()
  copy = workdir / 'explorer_copy.html'
  copy.write_text(page + MEASURE)
  shown = browser(copy, '--dump-dom')
  title = re.search('<title>(.*?)</title>', shown)
  assert title, shown
  opening, *times = json.loads(title[1])
  copy.write_text(page + CHOOSE)
  picture = folder / 'explorer.png'
  browser(copy, f'--screenshot={picture}', '--window-size=1400,1000', '--hide-scrollbars')
  return {
    'opening_ms': round(opening, 1),
    'median_ms': round(statistics.median(times), 1),
    'longest_ms': round(max(times), 1),
    'page_bytes': len(page.encode()),
  }


def browser(page: pathlib.Path, *arguments: str) -> str:
  """Opens a page in a headless Chromium and returns what that prints."""
  program = shutil.which('chromium') or shutil.which('google-chrome')
  if program is None:
    raise ArgumentError('no chromium on the PATH; on Debian: apt-get install chromium')
  command = [program, '--headless=new', '--no-sandbox', '--disable-gpu', *arguments]
  command.append(page.absolute().as_uri())
  return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == '__main__':
  flags.run(main)
