// The page: what is shown, and what the controls do.

const description = JSON.parse(byId('description').textContent);
const network = build(description); // the sliders change its p and q
const trained = build(description);
const [rows, columns, channels] = network.input;
const picture = new Picture(byId('drawing'), network.input);
const state = {
  contrast: 1,
  offset: 0,
  chosen: null, // the class to explain; null is the predicted one
  sample: null, // its number, if the picture is one
  limits: null, // of the colours of each layer, for this picture
};

const views = network.layers.slice(0, -1).map((layer, i) => layerView(layer, i, schedule));
const setContributionsLegend = legend(byId('contributions-legend'));

// -------------------------------------------------------------------------------------- Update

let isScheduled = false;

/** Asks for an update in the next frame. */
function schedule() {
  if (!isScheduled) requestAnimationFrame(update);
  isScheduled = true;
}

/** Says that the picture has changed; `sample` is its number if it is one. */
function changePicture(sample = null) {
  Object.assign(state, { sample, limits: null });
  [...byId('samples').children].forEach((button, i) => {
    button.ariaPressed = i === sample;
  });
  schedule();
}

function update() {
  isScheduled = false;
  const start = performance.now();
  const pixels = picture.read(byId('fit').checked);
  const image = pixels.map((value) => state.contrast * value + state.offset);
  const run = forward(network, image);
  const predicted = run.logits.indexOf(Math.max(...run.logits));
  const chosen = state.chosen ?? predicted;
  const explanation = explain(network, image, run, chosen);
  state.limits ??= forward(trained, pixels).outputs.map(colourLimit);
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

// -------------------------------------------------------------------------------------- Scores

function scoreRow(label) {
  const input = element('input', { type: 'radio', name: 'class', checked: label === null });
  input.onchange = () => {
    state.chosen = label;
    schedule();
  };
  const row = element('label', { className: 'score' }, input);
  byId('scores').append(row);
  if (label === null) {
    row.append(element('span', {}, 'the predicted class'));
    return null;
  }
  const [fill, logit, share] = ['', 'logit', 'share'].map((className) =>
    element('span', { className }),
  );
  const bar = element('span', { className: 'bar' }, fill);
  row.append(element('span', { className: 'name' }, network.classes[label]), bar, logit, share);
  return { row, fill, logit, share };
}

const [, ...scoreRows] = [null, ...network.classes.keys()].map(scoreRow);

function drawScores(logits, predicted) {
  const shares = logits.map((logit) => Math.exp(logit - logits[predicted]));
  const total = shares.reduce((sum, share) => sum + share, 0);
  const limit = largest(logits);
  scoreRows.forEach(({ row, fill, logit, share }, label) => {
    const value = logits[label];
    const length = (50 * Math.abs(value)) / limit;
    fill.className = value < 0 ? 'negative' : 'positive';
    fill.style.width = `${length}%`;
    fill.style.left = `${value < 0 ? 50 - length : 50}%`;
    logit.textContent = number(value, 3);
    logit.title = value; // all its digits
    share.textContent = `${number((100 * shares[label]) / total, 1)} %`;
    row.classList.toggle('best', label === predicted);
  });
  byId('predicted').textContent = network.classes[predicted];
  byId('probability').textContent = `${number(100 / total, 1)} %`;
  byId('truth').textContent = truth(predicted);
  announce(`Predicted: ${network.classes[predicted]}, ${number(100 / total, 0)} percent`);
}

/** What is known about the picture itself. */
function truth(predicted) {
  if (state.sample === null) return picture.isEmpty ? 'an empty picture' : '';
  const { label } = network.samples[state.sample];
  return `labelled ${network.classes[label]}: ${label === predicted ? 'right' : 'wrong'}`;
}

let announcement;

/** Tells screen readers, once the picture rests. */
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => {
    byId('status').textContent = text;
  }, 500);
}

// --------------------------------------------------------------------------------- Explanation

function drawExplanation({ contributions, constant }, logit, chosen) {
  const perPixel = new Float64Array(rows * columns);
  let [positive, negative] = [0, 0];
  contributions.forEach((value, i) => {
    perPixel[Math.floor(i / channels)] += value;
    if (value > 0) positive += value;
    else negative += value;
  });
  const limit = largest(perPixel);
  paintSigned(byId('contributions'), perPixel, [rows, columns, 1], 0, limit);
  setContributionsLegend(limit);
  byId('explained').textContent = network.classes[chosen];
  const sums = { positive, negative, constant, total: positive + negative + constant, logit };
  for (const [id, value] of Object.entries(sums)) byId(id).textContent = number(value, 4);
}

// --------------------------------------------------------------------------------------- Light

function drawLight(image) {
  paintImage(byId('seen'), image, network.input);
  byId('contrast-value').textContent = `× ${short(state.contrast)}`;
  byId('contrast').ariaValueText = `times ${short(state.contrast)}`;
  byId('offset-value').textContent = number(state.offset, 2);
  byId('light-note').textContent = lightNote();
}

/** What follows from the layer that sees the image. */
function lightNote() {
  const first = network.layers.find(({ kind }) => kind === 'scs');
  if (!first) return '';
  const isBlind = first === network.layers[0] && first.center;
  const offset = isBlind ? 'The first layer is centred: offset cannot change the scores. ' : '';
  if (first.norm) return offset;
  const q = Math.max(...first.weights.q);
  if (q === 0) return `${offset}The first SCS layer has q = 0: contrast cannot change the scores.`;
  return `${offset}The first SCS layer has q = ${short(q)}: patches with a smaller norm fade. At q = 0
    contrast cannot change the scores.`;
}

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

// ------------------------------------------------------------------------------------ Pictures

byId('clear').onclick = () => {
  picture.clear();
  changePicture();
};
byId('invert').onclick = () => {
  picture.show(picture.read(byId('fit').checked).map((value) => 1 - value));
  changePicture();
};
byId('fit').onchange = () => changePicture(state.sample);
enableDrawing(picture, byId('cursor'), () => byId('erase').checked, changePicture);

async function open(file) {
  if (!file) return;
  try {
    picture.show(await imageFrom(file, network.input));
    changePicture();
  } catch {
    byId('truth').textContent = `${file.name} cannot be read as an image`;
    announce(byId('truth').textContent);
  }
}

byId('file').onchange = (event) => {
  open(event.target.files[0]);
  event.target.value = ''; // so that the same file can be opened again
};
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  open(event.dataTransfer.files[0]);
};

network.samples.forEach(({ label, pixels }, i) => {
  const values = Float64Array.from(bytes(pixels), (value) => Math.fround(value / 255));
  const canvas = element('canvas');
  paintImage(canvas, values, network.input);
  const title = network.classes[label];
  const button = element('button', { type: 'button', title }, canvas);
  button.ariaLabel = `Image ${i + 1}, labelled ${title}`;
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
  byId('precision').append(
    ` The network itself computes in ${network.dtype}, so they differ more.`,
  );
}
byId('fit-row').hidden = channels !== 1;
byId('samples-part').hidden = network.samples.length === 0;
SCHEME.onchange = recolour;
recolour();
byId('samples').firstChild?.click();
