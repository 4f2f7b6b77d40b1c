"""The page that shows a trained network, in a real browser, against the network in JAX."""

import json
import pathlib
import re
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import Browser
from flax import nnx
from PIL import Image

import scs_jax
from scs_jax import data, explorer, models
from scs_jax.explorer.description import describe

pytestmark = pytest.mark.usefixtures('quick_compilation')

ROOT = pathlib.Path(__file__).parent.parent
HEAD, ABS = {'kind': 'head'}, {'kind': 'abs'}


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  browser = Browser(tmp_path_factory.mktemp('profile'))
  yield browser
  browser.close()


@pytest.fixture(scope='module')
def digits():
  return data.load('mnist5k', 'test')


@pytest.fixture(scope='module')
def network():
  """A small network whose layers have p and q of their own."""
  stack = [
    {'kind': 'scs', 'features': 5, 'window': 5},
    {'kind': 'pool'},
    {'kind': 'scs', 'features': 4, 'window': 3, 'padding': 'VALID'},
    {'kind': 'pool', 'window': 4},
    HEAD,
  ]
  return network_of(stack, (28, 28, 1), q_init=0.2, scale_init=10.0)


def network_of(stack, shape, **options):
  """A network with random weights, p and q, so that none can be taken for another."""
  sizes = {'stack': stack, 'input_shape': shape, 'num_classes': 10}
  model = nnx.eval_shape(lambda: models.build('scs_net', **sizes, **options, rngs=nnx.Rngs(0)))
  rng = np.random.default_rng(1)
  ranges = {'raw_p': (0.5, 2.5), 'raw_q': (-3, -1), 'scale': (2, 4)}
  for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
    low, high = ranges.get(path[-1], (-1, 1))
    param.set_value(jnp.asarray(rng.uniform(low, high, param.shape), jnp.float32))
  return model


@pytest.fixture(scope='module')
def images(digits):
  """Fifty digits, and as many inverted ones."""
  images = digits.images[:50] / np.float32(255)
  return np.concatenate([images, 1 - images])


@pytest.fixture(scope='module')
def expected(network, images):
  """The logits of `images`."""
  return np.asarray(nnx.jit(network)(images))


@pytest.fixture(scope='module')
def page_of_the_network(network, digits, tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'explorer.html'
  path.write_text(explorer.page(network, (28, 28, 1), title='a small network', examples=digits))
  return path


@pytest.fixture
def page(browser, page_of_the_network):
  """The browser, with the page of the small network in a wide window."""
  if browser.evaluate('location.pathname') != str(page_of_the_network):
    browser.open(page_of_the_network)
  for selector in ('#reset-light', '#reset-layers', '.score input', '#samples button'):
    click(browser, selector)  # as the page begins
  return browser


@pytest.fixture(autouse=True)
def no_errors(request):
  """No page may report an error, whatever a test does in it."""
  yield
  if 'browser' in request.fixturenames:
    assert request.getfixturevalue('browser').errors == []


def text(page, name):
  return page.evaluate(f"document.getElementById('{name}').textContent")


def number(page, name):
  return float(text(page, name).replace('−', '-'))


def scores(page):
  """The logits, in order; their titles have all digits."""
  page.settle()
  return page.evaluate("[...document.querySelectorAll('.logit')].map(cell => Number(cell.title))")


def shows(page, logits, tolerance=1e-5):
  """Whether the page has these logits, up to a part of the largest."""
  return np.allclose(scores(page), logits, rtol=0, atol=tolerance * np.abs(logits).max())


def click(page, selector):
  page.evaluate(f'document.querySelector({json.dumps(selector)}).click()')


def slide(page, selector, value):
  page.evaluate(
    f'(slider => {{ slider.value = {value}; slider.dispatchEvent(new Event("input")); }})'
    f'(document.querySelector({json.dumps(selector)}))'
  )


def in_page(page, model, images):
  """Logits, contributions to the largest, and constants, as the page's code computes them."""
  description = json.dumps(describe(model, images.shape[1:]))
  flat = json.dumps(images.reshape(len(images), -1).tolist())
  results = page.evaluate(f"""{flat}.map(values => {{
    const network = build({description});
    const image = Float64Array.from(values);
    const run = forward(network, image);
    const chosen = run.logits.indexOf(Math.max(...run.logits));
    const {{ contributions, constant }} = explain(network, image, run, chosen);
    return [[...run.logits], [...contributions], constant];
  }})""")
  logits, contributions, constants = zip(*results, strict=True)
  return np.array(logits), np.reshape(contributions, images.shape), np.array(constants)


def held(model, images):
  """Logits, and contributions to the largest: JAX differentiates what is linear times held factors.

  The linear part of an SCS layer is a convolution, and its factor the quotient of the two.
  """

  def of_the_class(x):
    logits = model(x)
    for name in model.names:
      layer = getattr(model, name)
      if name.startswith(('scs', 'depthwise', 'pointwise')):
        kernel, groups = layer.kernel[...], layer.feature_group_count
        s = x
        if layer.center:  # outside of the image is its mean
          by_group = x.reshape(*x.shape[:-1], groups, -1)
          s = (by_group - by_group.mean((1, 2, 4), keepdims=True)).reshape(x.shape)
          kernel = kernel - kernel.mean((0, 1, 2), keepdims=True)
        linear = jax.lax.conv_general_dilated(
          s,
          jnp.tile(kernel, groups if layer.share_kernels else 1),
          np.broadcast_to(layer.strides, 2),
          layer.padding if isinstance(layer.padding, str) else [(layer.padding,) * 2] * 2,
          dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
          feature_group_count=groups,
          precision='highest',
        )
        factor = jnp.where(linear == 0, 0, layer(x) / linear)
        x = linear * jax.lax.stop_gradient(factor)
      else:
        x = layer(x.reshape(len(x), -1) if name.startswith('head') else x)
    return x.max(-1).sum(), logits

  gradient, logits = jax.jit(jax.grad(of_the_class, has_aux=True))(images)
  return np.asarray(logits), np.asarray(images * gradient)


# Between them every setting of a stack and every option of its layers.
NETWORKS = {
  'strides, magnitude, shared kernels, unit size': (
    (28, 28, 1),
    [
      {'kind': 'scs', 'features': 4, 'window': 5, 'strides': 2},
      ABS,
      {'kind': 'depthwise', 'multiplier': 2, 'share_kernels': True, 'padding': 1},
      {'kind': 'pointwise', 'features': 6},
      {'kind': 'pool', 'window': 3, 'strides': 2, 'padding': 'VALID'},
      HEAD,
    ],
    {'output': 'unit', 'p_init': 1.25},
  ),
  'colours, a layer twice, norms of the patch': (
    (9, 12, 3),
    [
      {'kind': 'scs', 'features': 4, 'window': 4, 'padding': 2},
      {'kind': 'pool', 'window': 2},
      {'kind': 'depthwise', 'window': 3, 'multiplier': 2, 'q_init': 0.7},
      {'kind': 'pointwise', 'features': 4},
      {'kind': 'again', 'layer': 2},
      HEAD,
    ],
    {'output': 'b_cos', 'kernel_q': 0.3, 'q_mode': 'per_kernel', 'scale_init': 2.0},
  ),
  'centred, without q, p and q of one layer fixed': (
    (9, 10, 3),
    [
      {'kind': 'scs', 'features': 6, 'window': 3, 'strides': 2, 'q_mode': 'fixed', 'q_init': 0},
      {'kind': 'pool'},
      {'kind': 'depthwise', 'padding': 1, 'p_mode': 'fixed', 'p_init': 3.0},
      HEAD,
    ],
    {'center': True, 'output': 'unit'},
  ),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_logits_and_contributions_are_those_of_jax(page, name):
  shape, stack, options = NETWORKS[name]
  model = network_of(stack, shape, **options)
  rng = np.random.default_rng(0)
  images = rng.uniform(0, 1, (3, *shape)).astype(np.float32)
  images[0, : shape[0] // 2] = 0  # black patches
  logits, contributions, constants = in_page(page, model, images)
  expected_logits, expected_contributions = held(model, images)
  largest = np.abs(expected_logits).max()
  np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=1e-5 * largest)
  np.testing.assert_allclose(
    contributions.sum((1, 2, 3)) + constants, logits.max(1), rtol=0, atol=1e-9 * largest
  )
  tolerance = 1e-4 * np.abs(expected_contributions).max()
  np.testing.assert_allclose(contributions, expected_contributions, rtol=0, atol=tolerance)


def test_the_logits_of_fifty_digits_are_those_of_jax(page, network, images, expected):
  logits, *_ = in_page(page, network, images)
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
  assert len(set(logits.argmax(1))) > 1


def test_a_sample_shows_its_scores_label_and_contributions(page, digits, expected):
  click(page, '#samples button:nth-child(8)')  # two of each class, in order
  expected = expected[np.flatnonzero(digits.labels == 3)[1]]
  assert shows(page, expected)
  assert text(page, 'predicted') == str(expected.argmax())
  assert text(page, 'truth').startswith('labelled 3: ')
  click(page, '.score:nth-child(6) input')  # after "the predicted class" come 0 to 9
  page.settle()
  assert text(page, 'explained') == '4'
  parts = [number(page, name) for name in ('positive', 'negative', 'constant')]
  assert parts[0] > 0 > parts[1]
  assert sum(parts) == pytest.approx(number(page, 'total'), abs=2e-4)
  assert number(page, 'total') == number(page, 'logit') == pytest.approx(expected[4], abs=1e-4)


def place_of(page, selector):
  return page.evaluate(
    '(element => { element.scrollIntoView({block: "center"}); const box = '
    'element.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })'
    f'(document.querySelector({json.dumps(selector)}))'
  )


def draw(page, device):
  """Draws a vertical line across the drawing area."""
  left, top, width, height = place_of(page, '#drawing')
  x, ys = left + width / 2, [top + height * part for part in (0.2, 0.4, 0.6, 0.8)]
  if device == 'mouse':
    for kind, y in zip(['Pressed', 'Moved', 'Moved', 'Released'], ys, strict=True):
      page.call('Input.dispatchMouseEvent', type=f'mouse{kind}', x=x, y=y, button='left', buttons=1)
  elif device == 'script':
    for kind, y in zip(['down', 'move', 'move', 'up'], ys, strict=True):
      event = f'new PointerEvent("pointer{kind}", {{ clientX: {x}, clientY: {y} }})'
      page.evaluate(f"document.getElementById('drawing').dispatchEvent({event})")
  elif device == 'finger':
    for kind, y in zip(['Start', 'Move', 'Move'], ys, strict=False):
      page.call('Input.dispatchTouchEvent', type=f'touch{kind}', touchPoints=[{'x': x, 'y': y}])
    page.call('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])
  else:
    page.evaluate("document.getElementById('drawing').focus()")
    for key in [' ', *['ArrowDown'] * 6, ' ']:
      for kind in ('keyDown', 'keyUp'):
        page.call('Input.dispatchKeyEvent', type=kind, key=key)


@pytest.mark.parametrize('device', ['mouse', 'finger', 'keyboard', 'script'])
def test_a_stroke_changes_the_scores(page, device):
  click(page, '#clear')
  before = scores(page)
  draw(page, device)
  drawn = scores(page)
  assert np.abs(np.subtract(drawn, before)).max() > 0.1
  assert number(page, 'positive') - number(page, 'negative') > 0.1
  assert text(page, 'truth') == ''
  click(page, '#fit')  # the line is longer when it is scaled
  assert np.abs(np.subtract(scores(page), drawn)).max() > 0.1
  click(page, '#fit')
  np.testing.assert_array_equal(scores(page), drawn)
  click(page, '#clear')
  np.testing.assert_array_equal(scores(page), before)


def test_drawings_are_scaled_and_centred_as_digits_of_mnist_are(page, digits):
  """A digit of MNIST that is drawn anew, smaller and elsewhere, comes out as it was."""
  images = digits.images[:, :, :, 0] / 255
  middle = np.stack([images.sum(axis) @ np.arange(28) for axis in (1, 2)]) / images.sum((1, 2))
  image = images[np.abs(middle - 14).max(0).argmin()]  # MNIST moved it by whole pixels only
  drawn = np.zeros((280, 280))
  drawn[30:198, 90:258] = image.repeat(6, 0).repeat(6, 1)
  drawn = np.rint(255 * drawn).astype(int).repeat(4).tolist()
  fitted = page.evaluate(f'[...fitted(Uint8ClampedArray.from({drawn}), 280, 280, [28, 28])]')
  np.testing.assert_allclose(np.reshape(fitted, (28, 28)), image, rtol=0, atol=0.1)


def test_light_and_its_reset(page):
  before = scores(page)
  for selector, value in (('#contrast', -1.5), ('#offset', 0.5)):
    slide(page, selector, value)
    assert np.abs(np.subtract(scores(page), before)).max() > 0.05
    click(page, '#reset-light')
    np.testing.assert_array_equal(scores(page), before)


def test_p_and_q_of_every_layer_and_their_resets(page):
  before = scores(page)
  sliders = page.evaluate(
    "[...document.querySelectorAll('.powers input')].map(slider => slider.ariaLabel)"
  )
  assert sliders == ['p of layer 1', 'q of layer 1', 'p of layer 3', 'q of layer 3']
  for label in sliders:
    slide(page, f'[aria-label="{label}"]', 0.3)
    assert np.abs(np.subtract(scores(page), before)).max() > 0.05, label
    click(page, f'[aria-label="Reset p and q of layer {label[-1]}"]')
    np.testing.assert_array_equal(scores(page), before)
    slide(page, f'[aria-label="{label}"]', 0.3)
    click(page, '#reset-layers')
    np.testing.assert_array_equal(scores(page), before)


def test_without_q_in_the_first_layer_contrast_changes_nothing(page):
  slide(page, '[aria-label="q of layer 1"]', -5)
  before = scores(page)
  slide(page, '#contrast', -3)
  np.testing.assert_allclose(scores(page), before, rtol=1e-9)
  assert 'contrast cannot change the scores' in text(page, 'light-note')


def open_file(page, path):
  document = page.call('DOM.getDocument')['root']['nodeId']
  node = page.call('DOM.querySelector', nodeId=document, selector='#file')['nodeId']
  page.call('DOM.setFileInputFiles', nodeId=node, files=[str(path)])


def test_an_image_file_is_opened_or_refused(page, digits, expected, tmp_path):
  image, expected = digits.images[5], expected[5]
  Image.fromarray(image[:, :, 0]).save(tmp_path / 'digit.png')
  open_file(page, tmp_path / 'digit.png')
  page.until(lambda: shows(page, expected))  # not a grey level is lost
  wide = np.full((56, 112), 255, np.uint8)
  wide[:, 28:84] = image[:, :, 0].repeat(2, 0).repeat(2, 1)
  Image.fromarray(wide).save(tmp_path / 'wide.png')
  open_file(page, tmp_path / 'wide.png')
  page.until(lambda: shows(page, expected, 0.02))
  (tmp_path / 'not.png').write_text('not an image')
  open_file(page, tmp_path / 'not.png')
  page.until(lambda: text(page, 'truth') == 'not.png cannot be read as an image')
  assert shows(page, expected, 0.02)


def test_a_dropped_image_is_opened_and_inverted(page, images, expected):
  click(page, '#clear')
  page.evaluate(f"""(async () => {{
    const canvas = new OffscreenCanvas(28, 28);
    paintImage(canvas, {images[7].ravel().tolist()}, [28, 28, 1]);
    const transfer = new DataTransfer();
    transfer.items.add(new File([await canvas.convertToBlob()], 'digit.png'));
    document.body.dispatchEvent(
      new DragEvent('drop', {{ bubbles: true, cancelable: true, dataTransfer: transfer }}));
  }})()""")
  page.until(lambda: shows(page, expected[7]))
  click(page, '#invert')
  assert shows(page, expected[57])


def test_every_control_has_a_name_and_can_be_reached(page):
  page.until(lambda: text(page, 'status').startswith(f'Predicted: {text(page, "predicted")}, '))
  nodes = page.call('Accessibility.getFullAXTree')['nodes']
  value = lambda node, key: node.get(key, {}).get('value')
  roles = {}
  for node in nodes:
    if value(node, 'role') in ('button', 'slider', 'radio', 'checkbox', 'image', 'application'):
      roles.setdefault(value(node, 'role'), []).append(value(node, 'name'))
  assert all(all(names) for names in roles.values()), roles
  assert len(roles['slider']) == 6
  assert len(roles['radio']) == 11
  assert len(roles['image']) >= 5 + 5 + 5 + 4 + 4 + 2  # kernels, maps, picture and contributions
  assert page.evaluate("""[...document.querySelectorAll('button, input, #drawing')]
    .every(control => control.tabIndex === 0)""")


def test_a_new_picture_takes_at_most_50_ms(page):
  times = page.evaluate("""(async () => {
    const times = [];
    for (const button of document.getElementById('samples').children) {
      button.click();
      await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
      times.push(parseFloat(document.getElementById('time').textContent.match(/[\\d.]+/)[0]));
    }
    return times;
  })()""")
  print(f'a new picture: median {statistics.median(times)} ms, longest {max(times)} ms')
  assert len(times) == 20
  assert 0 < statistics.median(times) <= 50


def test_a_phone_shows_all_without_scrolling_sideways(browser, tmp_path):
  rng = np.random.default_rng(0)
  examples = data.Examples(
    rng.integers(0, 256, (10, 32, 32, 3), np.uint8), np.arange(10, dtype=np.int32), 10
  )
  stack = [{'kind': 'scs', 'features': 20, 'window': 5, 'strides': 2}, ABS, {'kind': 'pool'}, HEAD]
  names = [f'a class with a long name {i}' for i in range(10)]
  text_of_page = explorer.page(
    network_of(stack, (32, 32, 3)),
    (32, 32, 3),
    title='a_network_with_quite_a_long_name on a_data_set_with_an_even_longer_name',
    examples=examples,
    class_names=names,
  )
  assert not re.search(r'(src|url)\s*[=(]\s*.?https?:', text_of_page)
  path = tmp_path / 'explorer.html'
  path.write_text(text_of_page)
  for dark in (False, True):
    browser.open(path, width=360, height=740, dark=dark)
    assert browser.evaluate('document.documentElement.scrollWidth') == 360
    assert text(browser, 'predicted') in names
    ground = browser.evaluate('getComputedStyle(document.documentElement).backgroundColor')
    nothing = browser.evaluate('palette[STEPS] & 0xff')
    assert all((int(part) < 60) == dark for part in [*re.findall(r'\d+', ground), nothing])
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0
  before = scores(browser)
  draw(browser, 'finger')
  assert np.abs(np.subtract(scores(browser), before)).max() > 1e-3


def test_text_of_the_user_is_shown_as_text(browser, network, tmp_path):
  names = ['<i>nought</i>', '</script>', '<!--', *'3456789']
  title = 'on <b>data</b> </script><script>throw Error("ran")</script> {{page.css}}'
  path = tmp_path / 'explorer.html'
  path.write_text(explorer.page(network, (28, 28, 1), title=title, class_names=names))
  browser.open(path)
  assert text(browser, 'title') == title
  shown = browser.evaluate("[...document.querySelectorAll('.name')].map(cell => cell.textContent)")
  assert shown == names
  assert browser.evaluate("document.getElementById('samples-part').hidden")


def test_the_command_writes_the_page_of_a_workdir(browser, images, version_0_1_0):
  command = [sys.executable, '-m', 'scs_jax.main', '--mode=explorer', f'--workdir={version_0_1_0}']
  result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr
  path = version_0_1_0 / 'explorer.html'
  assert result.stdout.splitlines() == [str(path)]
  browser.open(path)
  model = nnx.jit(scs_jax.load(version_0_1_0))
  click(browser, '#samples button')
  assert shows(browser, np.asarray(model(images))[0])
  assert text(browser, 'title') == 'scs_net on mnist5k'


def test_a_workdir_without_its_data_has_a_page_without_images(version_0_1_0, caplog):
  config = version_0_1_0 / 'config.json'
  config.write_text(config.read_text().replace('"mnist5k"', '"a_set_that_is_nowhere"'))
  sizes = {'input_shape': [28, 28, 1], 'num_classes': 10}
  (version_0_1_0 / 'model.json').write_text(json.dumps(sizes))
  html = explorer.write(version_0_1_0).read_text()
  assert '"samples": []' in html
  assert 'no images to choose from' in caplog.text
  assert 'a_set_that_is_nowhere' in caplog.text


@pytest.mark.parametrize(
  ('model', 'shape', 'reason'),
  [
    (lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0)), (8, 8, 3), 'kind scs_net.* this one is a Linear'),
    (lambda: network_of([HEAD], (8, 8, 2)), (8, 8, 2), r'1 or 3 channels; .*\[8, 8, 2\]'),
    (lambda: network_of([HEAD], (8, 3)), (8, 3), r'1 or 3 channels; .*\[8, 3\]'),
    (
      lambda: network_of([{'kind': 'scs', 'features': 2}, HEAD], (8, 8, 1), variant='conv'),
      (8, 8, 1),
      'layer scs_0 of this network is a ConvBlock, as a convolutional twin has',
    ),
  ],
)
def test_other_networks_are_refused(model, shape, reason):
  with pytest.raises(scs_jax.errors.ArgumentError, match=reason):
    explorer.page(model(), shape, title='no')


def test_names_must_fit_the_classes(network):
  with pytest.raises(scs_jax.errors.ArgumentError, match='2 names for a network of 10 classes'):
    explorer.page(network, (28, 28, 1), title='no', class_names=['a', 'b'])
