// The page: what is shown, and what the controls do.

const description = JSON.parse(document.getElementById('description').textContent);
const network = build(description); // the sliders change its p and q
const trained = build(description);
const [rows, columns, channels] = network.input;
const byId = (id) => document.getElementById(id);
const picture = new Picture(byId('drawing'), network.input);
const scheme = matchMedia('(prefers-color-scheme: dark)');

const state = {
  contrast: 1,
  offset: 0,
  chosen: -1, // the class to explain; -1 is the predicted one
  sample: null,
  limits: null, // of the colours of each layer, from this picture at contrast 1, offset 0 and trained p and q
};

// ------------------------------------------------------------------------------------ Colours

// Negative to positive; 0 has the colour of the background.
const COLOURS = {
  light: ['#08306b', '#4292c6', '#f7f7f7', '#e6604c', '#7f0012'],
  dark: ['#a8d4ff', '#2f7fd0', '#16181d', '#d9472f', '#ffc0a0'],
};
const STEPS = 255; // of each sign
let palette;

function choosePalette() {
  const stops = COLOURS[scheme.matches ? 'dark' : 'light'].map((hex) =>
    [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)),
  );
  palette = Uint32Array.from({ length: 2 * STEPS + 1 }, (_, i) => {
    const at = (i / (2 * STEPS)) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const [r, g, b] = stops[low].map((v, c) => Math.round(v + (at - low) * (stops[low + 1][c] - v)));
    return 0xff000000 | (b << 16) | (g << 8) | r;
  });
  const css = stops.map((rgb) => `rgb(${rgb})`).join(', ');
  document.documentElement.style.setProperty('--diverging', `linear-gradient(90deg, ${css})`);
}

/** Paints one channel of a signed array [height, width, channels]; `limit` has the full colour. */
function paintSigned(canvas, values, [height, width, depth], channel, limit) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.image = new ImageData(width, height);
  }
  canvas.image ??= new ImageData(width, height);
  const colours = new Uint32Array(canvas.image.data.buffer);
  for (let i = 0; i < colours.length; i++) {
    const ratio = Math.min(Math.max(values[i * depth + channel] / limit, -1), 1);
    colours[i] = palette[Math.round(STEPS * (1 + ratio))];
  }
  canvas.getContext('2d').putImageData(canvas.image, 0, 0);
}

// ----------------------------------------------------------------------------------- Elements

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const number = (value, digits) => {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace('-', '') : text.replace('-', '−');
};
const short = (value) => Number(value.toPrecision(3)).toString().replace('-', '−');
const name = (label) => network.classes[label];

/** A bar of all colours between two numbers; returns the function that sets them. */
function legend(container) {
  const [low, high] = [element('span'), element('span')];
  container.append(low, element('span', { className: 'colours' }), high);
  return (limit) => {
    low.textContent = short(-limit);
    high.textContent = `+${short(limit)}`;
  };
}

// -------------------------------------------------------------------------------------- Layers

const plural = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;

function titleOf(layer) {
  const window = (layer.window ?? []).join('×');
  const stride = layer.strides?.some((s) => s > 1) ? `, step ${layer.strides.join('×')}` : '';
  if (layer.kind === 'pool') return `absolute max pool ${window}${stride}`;
  if (layer.kind === 'abs') return 'magnitude';
  const groups = layer.groups > 1 ? ` in ${plural(layer.groups, 'group')}` : '';
  const again = layer.sameAs === undefined ? '' : `, layer ${layer.sameAs + 1} again`;
  const center = layer.center ? 'centred ' : '';
  return `${center}SCS ${window}, ${plural(layer.output[2], 'kernel')}${groups}${stride}${again}`;
}

/** Makes the part of the page for one layer; returns the function that draws it. */
function layerView(layer, index) {
  const maps = element('ul', { className: 'maps' });
  const canvases = Array.from({ length: layer.output[2] }, (_, channel) => {
    const canvas = element('canvas', { role: 'img', ariaLabel: `map ${channel + 1}` });
    const figure = element('li', { title: `map ${channel + 1}` }, canvas);
    const kernel = layer.weights && kernelPicture(layer, channel);
    if (kernel) figure.prepend(kernel);
    maps.append(figure);
    return canvas;
  });
  const colours = element('div', { className: 'legend' });
  const setLegend = legend(colours);
  const heading = element('h3', {}, `${index + 1}  ${titleOf(layer)} `);
  heading.append(element('small', {}, layer.output.join('×')));
  const section = element('section', { className: 'layer' }, heading);
  const sliders = layer.weights && layer.sameAs === undefined ? slidersOf(layer, index) : null;
  if (sliders) section.append(sliders);
  section.append(colours, maps);
  byId('layers').append(section);
  return (values, limit) => {
    setLegend(limit);
    canvases.forEach((canvas, c) => paintSigned(canvas, values, layer.output, c, limit));
  };
}

/** A picture of a kernel that sees one channel, or the colours of an image; else null. */
function kernelPicture(layer, channel) {
  const depth = layer.input[2] / layer.groups;
  if (depth !== 1 && !(depth === 3 && layer === network.layers[0])) return null;
  const { kernel } = layer.weights;
  const out = layer.output[2];
  const values = Float64Array.from({ length: kernel.length / out }, (_, i) => kernel[i * out + channel]);
  const limit = largest(values);
  const canvas = element('canvas', { className: 'kernel', role: 'img' });
  canvas.ariaLabel = `kernel ${channel + 1}`;
  if (depth === 3) {
    paintImage(canvas, values.map((v) => 0.5 + (0.5 * v) / limit), [...layer.window, 3]);
    return canvas;
  }
  repaints.push(() => paintSigned(canvas, values, [...layer.window, 1], 0, limit));
  return canvas;
}

const repaints = []; // what depends on the colour scheme alone

function largest(values) {
  let most = 1e-12;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

/** Where the colours of a layer end: so that a few large responses do not hide all others. */
function colourLimit(values) {
  const squares = values.reduce((sum, value) => sum + value * value, 0);
  return Math.min(largest(values), 4 * Math.sqrt(squares / values.length) || 1);
}

// A slider is at log2 p, or at log10 q with its left end for 0.
const SCALES = {
  p: { min: -2, max: 4, value: (at) => 2 ** at, at: (value) => Math.log2(value) },
  q: {
    min: -4.05,
    max: 1,
    value: (at) => (at <= -4.05 ? 0 : 10 ** at),
    at: (value) => (value > 0 ? Math.log10(value) : -4.05),
  },
};
const resets = [];

/** Sliders for p and q. They show the mean of the layer; its kernels keep their proportions. */
function slidersOf(layer, index) {
  const { weights } = layer;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const moved = { p: null, q: null }; // the mean that the user chose
  const inputs = {};
  const outputs = {};
  const show = () => {
    for (const key of ['p', 'q']) {
      const value = moved[key] ?? mean(weights.trained[key]);
      outputs[key].textContent = short(value);
      inputs[key].setAttribute('aria-valuetext', short(value));
    }
    button.disabled = moved.p === null && moved.q === null;
  };
  const apply = () => {
    const scaled = (key) => {
      const values = weights.trained[key];
      const now = mean(values);
      if (moved[key] === null) return values;
      return values.map((value) => (now > 0 ? (value * moved[key]) / now : moved[key]));
    };
    setPowers(weights, scaled('p'), scaled('q'));
    show();
    schedule();
  };
  const reset = () => {
    for (const key of ['p', 'q']) {
      moved[key] = null;
      inputs[key].value = SCALES[key].at(mean(weights.trained[key]));
    }
    apply();
  };
  const button = element('button', { type: 'button', onclick: reset }, 'Reset');
  button.ariaLabel = `Reset p and q of layer ${index + 1}`;
  const rows = ['p', 'q'].map((key) => {
    const { min, max, value } = SCALES[key];
    inputs[key] = element('input', { type: 'range', min, max, step: 0.05 });
    inputs[key].ariaLabel = `${key} of layer ${index + 1}`;
    inputs[key].oninput = () => {
      moved[key] = value(inputs[key].valueAsNumber);
      apply();
    };
    outputs[key] = element('b');
    return element('label', { className: 'slider' }, `${key} `, outputs[key], inputs[key]);
  });
  for (const key of ['p', 'q']) inputs[key].value = SCALES[key].at(mean(weights.trained[key]));
  show();
  resets.push(reset);
  return element('div', { className: 'powers' }, ...rows, button);
}

const isTrained = () =>
  network.layers.every(
    ({ weights }) =>
      !weights || (weights.p === weights.trained.p && weights.q === weights.trained.q),
  );

// -------------------------------------------------------------------------------------- Scores

const scoreRows = [-1, ...network.classes.keys()].map((label) => {
  const input = element('input', { type: 'radio', name: 'class', checked: label < 0 });
  input.onchange = () => {
    state.chosen = label;
    schedule();
  };
  if (label < 0) {
    const text = element('span', {}, 'the predicted class');
    byId('scores').append(element('label', { className: 'score' }, input, text));
    return null;
  }
  const parts = ['name', 'bar', 'logit', 'share'].map((className) => element('span', { className }));
  parts[0].textContent = name(label);
  const fill = element('span');
  parts[1].append(fill);
  byId('scores').append(element('label', { className: 'score' }, input, ...parts));
  return { row: input.parentElement, fill, logit: parts[2], share: parts[3] };
});
scoreRows.shift();

function drawScores(logits, predicted) {
  const top = logits[predicted];
  const shares = logits.map((logit) => Math.exp(logit - top));
  const total = shares.reduce((sum, share) => sum + share, 0);
  const limit = largest(logits);
  scoreRows.forEach(({ row, fill, logit, share }, label) => {
    const length = (50 * Math.abs(logits[label])) / limit;
    fill.className = logits[label] < 0 ? 'negative' : 'positive';
    fill.style.width = `${length}%`;
    fill.style.left = `${logits[label] < 0 ? 50 - length : 50}%`;
    logit.textContent = number(logits[label], 3);
    share.textContent = `${number((100 * shares[label]) / total, 1)} %`;
    row.classList.toggle('best', label === predicted);
  });
  byId('predicted').textContent = name(predicted);
  byId('probability').textContent = `${number(100 / total, 1)} %`;
  const label = state.sample === null ? null : network.samples[state.sample].label;
  const verdict = label === predicted ? 'right' : 'wrong';
  byId('truth').textContent = label === null ? '' : `labelled ${name(label)}: ${verdict}`;
  announce(`${name(predicted)}, ${number(100 / total, 0)} percent`);
}

let announcement;

/** Tells a screen reader, once the picture rests. */
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => {
    byId('status').textContent = `Predicted: ${text}`;
  }, 500);
}

// --------------------------------------------------------------------------------- Explanation

const setContributionsLegend = legend(byId('contributions-legend'));

function drawExplanation({ contributions, constant }, logit, chosen) {
  const perPixel = new Float64Array(rows * columns);
  let [positive, negative] = [0, 0];
  contributions.forEach((value, i) => {
    perPixel[Math.floor(i / channels)] += value;
    if (value > 0) positive += value;
    else negative += value;
  });
  const limit = largest(perPixel);
  const canvas = byId('contributions');
  paintSigned(canvas, perPixel, [rows, columns, 1], 0, limit);
  canvas.ariaLabel = `Contributions of the pixels to the logit of ${name(chosen)}`;
  setContributionsLegend(limit);
  byId('explained').textContent = name(chosen);
  const sums = { positive, negative, constant, total: positive + negative + constant, logit };
  for (const [id, value] of Object.entries(sums)) byId(id).textContent = number(value, 4);
}

// --------------------------------------------------------------------------------------- Light

function drawLight(image) {
  paintImage(byId('seen'), image, network.input);
  byId('contrast-value').textContent = `× ${short(state.contrast)}`;
  byId('offset-value').textContent = number(state.offset, 2);
  byId('contrast').setAttribute('aria-valuetext', `times ${short(state.contrast)}`);
  byId('light-note').textContent = lightNote();
}

/** Says what follows from q of the layer that sees the image. */
function lightNote() {
  const first = network.layers.find((layer) => layer.kind === 'scs');
  if (!first || first.norm) return '';
  if (first.weights.q.every((q) => q === 0)) {
    return 'The first SCS layer has q = 0: contrast cannot change the scores.';
  }
  const q = first.weights.q.reduce((most, value) => Math.max(most, value), 0);
  return `The first SCS layer has q = ${short(q)}: patches with a smaller norm fade. At q = 0 contrast
    cannot change the scores.`;
}

// -------------------------------------------------------------------------------------- Update

const views = network.layers.slice(0, -1).map(layerView);
let scheduled = false;

/** Asks for an update in the next frame. */
function schedule() {
  if (!scheduled) requestAnimationFrame(update);
  scheduled = true;
}

/** Forgets what was computed from the picture before. */
function changePicture(sample = null) {
  state.limits = null;
  state.sample = sample;
  [...byId('samples').children].forEach((button, i) => {
    button.setAttribute('aria-pressed', i === sample);
  });
  schedule();
}

function update() {
  scheduled = false;
  const start = performance.now();
  const pixels = picture.read(byId('fit').checked);
  const image = pixels.map((value) => state.contrast * value + state.offset);
  const run = forward(network, image);
  const isPlain = state.contrast === 1 && state.offset === 0 && isTrained();
  if (!state.limits) {
    const { outputs } = isPlain ? run : forward(trained, pixels);
    state.limits = outputs.map(colourLimit);
  }
  const predicted = run.logits.indexOf(Math.max(...run.logits));
  const chosen = state.chosen < 0 ? predicted : state.chosen;
  const explanation = explain(network, image, run, chosen);
  const computed = performance.now();
  drawLight(image);
  drawScores(run.logits, predicted);
  drawExplanation(explanation, run.logits[chosen], chosen);
  views.forEach((draw, i) => draw(run.outputs[i], state.limits[i]));
  const drawn = performance.now();
  byId('time').textContent =
    `This picture took ${number(drawn - start, 1)} ms: ` +
    `${number(computed - start, 1)} to compute, ${number(drawn - computed, 1)} to draw.`;
}

// ------------------------------------------------------------------------------------ Controls

const drawing = byId('drawing');
const pen = { at: [columns / 2, rows / 2], isDown: false };

const positionOf = (event) => {
  const box = drawing.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * columns,
    ((event.clientY - box.top) / box.height) * rows,
  ];
};

function drawTo(point) {
  picture.stroke(pen.at, point, byId('erase').checked);
  pen.at = point;
  changePicture();
}

drawing.onpointerdown = (event) => {
  if (event.button !== 0) return;
  drawing.setPointerCapture(event.pointerId);
  pen.isDown = true;
  pen.at = positionOf(event);
  drawTo(pen.at);
};
drawing.onpointermove = (event) => {
  if (!pen.isDown || !drawing.hasPointerCapture(event.pointerId)) return;
  for (const part of event.getCoalescedEvents?.() ?? [event]) drawTo(positionOf(part));
};
drawing.onlostpointercapture = () => {
  pen.isDown = false;
};

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

drawing.onkeydown = (event) => {
  if (event.key === ' ' || event.key === 'Enter') {
    pen.isDown = !pen.isDown;
    if (pen.isDown) drawTo(pen.at);
  } else if (event.key in ARROWS) {
    const [right, down] = ARROWS[event.key];
    const point = [
      Math.min(Math.max(pen.at[0] + right, 0), columns),
      Math.min(Math.max(pen.at[1] + down, 0), rows),
    ];
    if (pen.isDown) drawTo(point);
    pen.at = point;
  } else return;
  event.preventDefault();
  showCursor();
};

function showCursor() {
  const cursor = byId('cursor');
  cursor.hidden = !drawing.matches(':focus-visible');
  cursor.classList.toggle('down', pen.isDown);
  cursor.style.left = `${(100 * pen.at[0]) / columns}%`;
  cursor.style.top = `${(100 * pen.at[1]) / rows}%`;
}
drawing.onfocus = showCursor;
drawing.onblur = () => {
  pen.isDown = false;
  byId('cursor').hidden = true;
};

byId('clear').onclick = () => {
  picture.clear();
  changePicture();
};
byId('invert').onclick = () => {
  picture.show(picture.read(byId('fit').checked).map((value) => 1 - value));
  changePicture();
};
byId('fit').onchange = () => changePicture(state.sample);

async function open(file) {
  if (!file) return;
  try {
    picture.show(await imageFrom(file, network.input));
    changePicture();
  } catch {
    byId('truth').textContent = `${file.name} cannot be read as an image`;
    byId('status').textContent = byId('truth').textContent;
  }
}
byId('file').onchange = (event) => {
  open(event.target.files[0]);
  event.target.value = ''; // the same file may be opened again
};
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  open(event.dataTransfer.files[0]);
};

byId('contrast').oninput = (event) => {
  state.contrast = 10 ** event.target.valueAsNumber;
  schedule();
};
byId('offset').oninput = (event) => {
  state.offset = event.target.valueAsNumber;
  schedule();
};
byId('reset-light').onclick = () => {
  Object.assign(state, { contrast: 1, offset: 0 });
  byId('contrast').value = byId('offset').value = 0;
  schedule();
};
byId('reset-layers').onclick = () => resets.forEach((reset) => reset());

network.samples.forEach(({ label, pixels }, i) => {
  const values = Float64Array.from(bytes(pixels), (value) => Math.fround(value / 255));
  const canvas = element('canvas');
  paintImage(canvas, values, network.input);
  const button = element('button', { type: 'button', title: name(label) }, canvas);
  button.ariaLabel = `Sample ${i + 1}, labelled ${name(label)}`;
  button.onclick = () => {
    picture.show(values);
    changePicture(i);
  };
  byId('samples').append(button);
});

// --------------------------------------------------------------------------------------- Start

function recolour() {
  choosePalette();
  repaints.forEach((repaint) => repaint());
  schedule();
}

document.title = `${network.title} · scs_jax explorer`;
byId('title').textContent = network.title;
byId('parameters').textContent = network.parameters.toLocaleString('en');
if (network.dtype !== 'float32') {
  byId('precision').append(` The network itself computes in ${network.dtype}, so they differ more.`);
}
byId('fit-row').hidden = channels !== 1;
byId('samples-part').hidden = network.samples.length === 0;
scheme.onchange = recolour;
recolour();
if (network.samples.length) byId('samples').firstChild.click();
