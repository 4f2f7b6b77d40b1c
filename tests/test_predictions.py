"""What an evaluation, a profile and a sink write or get, on one small run."""

import json

import jax
import numpy as np
import pytest
from config_files import load_config

from scs_jax import data, train
from scs_jax.train import Experiment, report

STACK = ({'kind': 'scs', 'features': 4, 'strides': 4}, {'kind': 'head'})
NAMES = ('circle', 'cross', 'square')


def small(**changes) -> Experiment:
  config = load_config('quickstart')
  config.model.stack = STACK
  config.update(batch_size=8, eval_batch_size=8, total_epochs=2, log_every_steps=1, ema_decay=None)
  config.eval_every_epochs = 1
  config.update(changes)
  images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
  labels = np.arange(32, dtype=np.int32) % 3
  train_set = data.Examples(images, labels, num_classes=3, class_names=NAMES)
  test_set = data.Examples(images[:13], labels[:13], num_classes=3, class_names=NAMES)
  return Experiment(config, train=train_set, test=test_set)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The workdir of a run of eight steps, what it returned, and what a sink got."""
  workdir, seen = tmp_path_factory.mktemp('run'), []
  sink = lambda step, metrics: seen.append({'step': step, **metrics})
  values = train.run(small(profile_steps=2), workdir, sinks=[sink])
  return workdir, values, seen


def test_a_sink_gets_every_row_of_the_log(finished):
  workdir, _, seen = finished
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert seen == rows
  assert len(rows) == 8 + 2


def test_a_profile_is_written_once_and_says_where(finished, tmp_path, capsys):
  workdir, *_ = finished
  assert list((workdir / 'profile').rglob('*.xplane.pb'))
  train.run(small(profile_steps=3, total_epochs=0.5), tmp_path / 'short')
  assert not (tmp_path / 'short' / 'profile').exists()
  assert 'no profile: this process made no more than 2 steps' in capsys.readouterr().out


def test_what_a_sink_raises_stops_the_run(tmp_path):
  def sink(step, metrics):
    raise ConnectionError('the logger is away')

  with pytest.raises(ConnectionError, match='the logger is away'):
    train.run(small(), tmp_path, sinks=[sink])


def test_predictions_are_those_of_the_trained_network(finished, capsys):
  workdir, values, _ = finished
  before = set(workdir.iterdir())
  assert train.evaluate(small(), workdir) == {'step': 8, **values}
  assert set(workdir.iterdir()) == before
  again = train.evaluate(small(), workdir, write_predictions=True)
  assert again == pytest.approx({'step': 8, **values}, rel=1e-6)
  assert {path.name for path in set(workdir.iterdir()) - before} == {'predictions.npz'}
  found = np.load(workdir / 'predictions.npz')
  experiment = small()
  images = train.as_float(jax.numpy.asarray(experiment.eval_set.images))
  np.testing.assert_allclose(found['logits'], train.load(workdir)(images), rtol=1e-4, atol=1e-5)
  assert found['labels'].tolist() == experiment.eval_set.labels.tolist()
  assert found['index'].tolist() == list(range(13))
  assert tuple(found['class_names']) == NAMES
  assert found['step'] == 8
  accuracy = np.mean(found['logits'].argmax(-1) == found['labels'])
  assert accuracy == pytest.approx(values['val/accuracy'])


def test_a_workdir_that_cannot_be_written_is_evaluated_all_the_same(finished, capsys):
  workdir, values, _ = finished
  (workdir / 'predictions.npz').unlink(missing_ok=True)
  (workdir / 'predictions.npz').mkdir()
  found = train.evaluate(small(), workdir, write_predictions=True)
  assert found['val/accuracy'] == pytest.approx(values['val/accuracy'])
  assert 'no predictions.npz: ' in capsys.readouterr().out
  (workdir / 'predictions.npz').rmdir()


@pytest.mark.parametrize(
  ('decay', 'epochs', 'advice'),
  [
    (0.9999, 25, 'ema_decay=0.9'),
    (0.9999, 2, 'ema_decay=None'),
    (0.98, 100, None),
    (None, 2, None),
    (0.0, 2, None),
  ],
)
def test_an_average_over_too_few_steps_is_told(decay, epochs, advice):
  experiment = small(ema_decay=decay, total_epochs=epochs)  # four steps each
  remarks = report.remarks(experiment, 0)
  assert len(remarks) == (advice is not None)
  if advice:
    assert (
      f'averages over 10,000 steps, and the run has {4 * epochs}: 50% of the average' in remarks[0]
    )
    assert remarks[0].endswith(f'Use {advice}, or train longer')


def test_the_share_of_early_weights_is_that_of_the_average():
  weights = 0.9 ** np.arange(39.0, -1, -1)
  assert report.early_share(0.9, 40) == pytest.approx(weights[:20].sum() / weights.sum())
