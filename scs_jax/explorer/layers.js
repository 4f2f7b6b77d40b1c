// The layers: their maps, and the sliders of their p and q.

const repaints = []; // pictures that change with the colour scheme alone
const resets = []; // one for each pair of sliders

/** Makes the part of the page for a layer; returns what draws its output. */
function layerView(layer, index, onChange) {
  const colours = element('div', { className: 'legend' });
  const setLegend = legend(colours);
  const maps = element('ul', { className: 'maps' });
  const canvases = Array.from({ length: layer.output[2] }, (_, channel) => {
    const label = `map ${channel + 1}`;
    const canvas = element('canvas', { role: 'img', ariaLabel: label });
    const kernel = kernelPicture(layer, channel);
    maps.append(element('li', { title: label }, ...(kernel ? [kernel] : []), canvas));
    return canvas;
  });
  const shape = element('small', {}, layer.output.join('×'));
  const heading = element('h3', {}, `${index + 1} ${titleOf(layer)} `, shape);
  const hasSliders = layer.weights && layer.sameAs === undefined;
  const sliders = hasSliders ? [slidersOf(layer.weights, index, onChange)] : [];
  byId('layers').append(element('section', {}, heading, ...sliders, colours, maps));
  return (values, limit) => {
    setLegend(limit);
    canvases.forEach((canvas, c) => paintSigned(canvas, values, layer.output, c, limit));
  };
}

function titleOf({ kind, window, strides, groups, output, sameAs, center }) {
  if (kind === 'abs') return 'magnitude';
  const step = strides.every((s) => s === 1) ? '' : `, step ${strides.join('×')}`;
  if (kind === 'pool') return `absolute max pool ${window.join('×')}${step}`;
  const kernels = plural(output[2], 'kernel') + (groups > 1 ? ` in ${groups} groups` : '');
  const again = sameAs === undefined ? '' : `, those of layer ${sameAs + 1} again`;
  return `${center ? 'centred ' : ''}SCS ${window.join('×')}${step}, ${kernels}${again}`;
}

/** A picture of a kernel that sees one channel, or the three of a colour image; else null. */
function kernelPicture({ weights, input, output, groups, window }, channel) {
  const depth = input[2] / groups;
  if (!weights || (depth !== 1 && depth !== network.input[2])) return null;
  const { kernel } = weights;
  const take = (_, i) => kernel[i * output[2] + channel];
  const values = Float64Array.from({ length: kernel.length / output[2] }, take);
  const limit = largest(values);
  const label = `kernel ${channel + 1}`;
  const canvas = element('canvas', { className: 'kernel', role: 'img', ariaLabel: label });
  if (depth === 1) {
    repaints.push(() => paintSigned(canvas, values, [...window, 1], 0, limit));
  } else {
    const colours = values.map((value) => 0.5 + (0.5 * value) / limit);
    paintImage(canvas, colours, [...window, depth]);
  }
  return canvas;
}

// A slider is at log2 p, or at log10 q with its left end for 0.
const NO_Q = -4.05;
const SCALES = {
  p: { min: -2, max: 4, valueAt: (place) => 2 ** place, placeOf: Math.log2 },
  q: {
    min: NO_Q,
    max: 1,
    valueAt: (place) => (place <= NO_Q ? 0 : 10 ** place),
    placeOf: (value) => (value > 0 ? Math.log10(value) : NO_Q),
  },
};

/** Sliders for p and q. They show the mean of the layer; its kernels keep their proportions. */
function slidersOf(weights, index, onChange) {
  const sliders = Object.keys(SCALES).map((key) => powerSlider(key, weights.trained[key], index));
  const apply = () => {
    setPowers(weights, ...sliders.map((slider) => slider.values()));
    button.disabled = !sliders.some((slider) => slider.isMoved());
    onChange();
  };
  const reset = () => {
    sliders.forEach((slider) => slider.reset());
    apply();
  };
  const button = element('button', { type: 'button', disabled: true, onclick: reset }, 'Reset');
  button.ariaLabel = `Reset p and q of layer ${index + 1}`;
  sliders.forEach((slider) => slider.input.addEventListener('input', apply));
  resets.push(reset);
  const labels = sliders.map(({ label }) => label);
  return element('div', { className: 'powers' }, ...labels, button);
}

function powerSlider(key, trained, index) {
  const { min, max, valueAt, placeOf } = SCALES[key];
  const mean = trained.reduce((sum, value) => sum + value, 0) / trained.length;
  const input = element('input', { type: 'range', min, max, step: 0.05 });
  input.ariaLabel = `${key} of layer ${index + 1}`;
  const shown = element('b');
  let now;
  const set = (value) => {
    now = value;
    shown.textContent = input.ariaValueText = short(value);
  };
  const reset = () => {
    input.value = placeOf(mean);
    set(mean);
  };
  const values = () => {
    if (now === mean) return trained;
    return mean > 0 ? trained.map((value) => (value * now) / mean) : trained.map(() => now);
  };
  input.addEventListener('input', () => set(valueAt(input.valueAsNumber)));
  reset();
  const label = element('label', { className: 'slider' }, `${key} `, shown, input);
  return { input, label, reset, values, isMoved: () => now !== mean };
}
