'use strict';
// The network in plain JavaScript: the equations of scs_jax/ops for one image, in float64.
//
// An array is flat and row-major: an image [height, width, channels], a kernel
// [height, width, channels / groups, out]. `description` is what scs_jax/explorer/description.py
// wrote.

const EPSILON = 1e-6; // of the smooth power, as in scs_jax/ops/sharpening.py

/** Returns the network of a description: its arrays decoded, p and q as trained. */
function build(description) {
  const layers = [];
  for (const entry of description.layers) {
    const layer = { ...entry };
    if (entry.sameAs !== undefined) layer.weights = layers[entry.sameAs].weights;
    else if (entry.kind === 'scs') layer.weights = weightsOf(entry);
    else if (entry.kind === 'head') {
      layer.kernel = floats(entry.kernel);
      layer.bias = floats(entry.bias);
    }
    layers.push(layer);
  }
  return { ...description, layers };
}

function floats(base64) {
  return new Float32Array(bytes(base64).buffer);
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** The kernels of an SCS layer, with p and q as trained; `setPowers` changes these. */
function weightsOf(entry) {
  const { p, q, kernelQ, kernel } = entry;
  const out = entry.output[2];
  const weights = {
    kernel: floats(kernel),
    trained: { p: Float64Array.from(floats(p)), q: Float64Array.from(floats(q)) },
    kernelQ: kernelQ === null ? null : Float64Array.from(floats(kernelQ)),
    scale: entry.scale,
    // The values of a patch that may differ, or no such factor.
    unit: entry.unit ? floats(kernel).length / out - entry.center : 1,
    center: entry.center,
  };
  setPowers(weights, weights.trained.p, weights.trained.q);
  return weights;
}

/** Sets p and q, one for each kernel, and what depends on them alone. */
function setPowers(weights, p, q) {
  const { kernel, kernelQ, center } = weights;
  const out = p.length;
  const values = kernel.length / out;
  const direction = new Float64Array(kernel.length); // the kernels, divided by their length
  for (let o = 0; o < out; o++) {
    let mean = 0;
    if (center) {
      for (let i = o; i < kernel.length; i += out) mean += kernel[i];
      mean /= values;
    }
    let squares = 0;
    for (let i = o; i < kernel.length; i += out) squares += (kernel[i] - mean) ** 2;
    const length = Math.sqrt(squares) + (kernelQ ?? q)[o];
    if (!(length > 0)) continue; // a kernel of zeros: 0 everywhere
    for (let i = o; i < kernel.length; i += out) direction[i] = (kernel[i] - mean) / length;
  }
  const size = p.map((power) => weights.scale * weights.unit ** (power / 2));
  Object.assign(weights, { p, q, direction, size });
}

/**
 * Runs the network.
 *
 * Returns `outputs`, one of each layer, the logits last, and `held`: what a layer computed from its
 * input besides the linear part. With these held constant the network is linear in its input.
 */
function forward(network, image) {
  const outputs = [];
  const held = [];
  let x = image;
  for (const layer of network.layers) {
    const { y, factors } = FORWARD[layer.kind](layer, x);
    outputs.push(y);
    held.push(factors);
    x = y;
  }
  return { outputs, held, logits: x };
}

/**
 * Splits a logit into what each value of the image contributes and a constant: they add up to it.
 *
 * Norms, powers, gates and picks of `run` are held constant. The contribution of a value is the
 * value times the derivative of that linear network.
 */
function explain(network, image, run, chosen) {
  let gradient = new Float64Array(run.logits.length);
  gradient[chosen] = 1;
  let constant = 0;
  for (let i = network.layers.length - 1; i >= 0; i--) {
    const layer = network.layers[i];
    if (layer.kind === 'head') constant = layer.bias[chosen];
    gradient = BACKWARD[layer.kind](layer, run.held[i], gradient);
  }
  const contributions = gradient.map((slope, i) => slope * image[i]);
  return { contributions, constant };
}

const FORWARD = { scs: similarity, pool: absMaxPool, abs: magnitude, head };
const BACKWARD = {
  scs: similarityBackward,
  pool: (layer, picks, gradient) => {
    const result = new Float64Array(size(layer.input));
    for (let i = 0; i < picks.length; i++) if (picks[i] >= 0) result[picks[i]] += gradient[i];
    return result;
  },
  abs: (layer, signs, gradient) => gradient.map((slope, i) => slope * signs[i]),
  head: (layer, _, gradient) => {
    const classes = gradient.length;
    const result = new Float64Array(size(layer.input));
    for (let i = 0; i < layer.kernel.length; i++) {
      result[Math.floor(i / classes)] += layer.kernel[i] * gradient[i % classes];
    }
    return result;
  },
};

function size(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

/**
 * y = sign(c) |c|^p, c = s·k / ((‖s‖ + q)(‖k‖ + q)), times the output's scale.
 *
 * Returns it as y = (s·k) factor, k divided by its length.
 */
function similarity(layer, x) {
  const { strides, groups, norm, output, input } = layer;
  const { p, q, direction, size: scale, center } = layer.weights;
  const [height, width, out] = output;
  const channels = input[2];
  const inGroup = channels / groups;
  const kernels = out / groups;
  const padded = pad(layer, center ? withoutMean(x, channels, groups) : x);
  const y = new Float64Array(height * width * out);
  const factors = new Float64Array(y.length);
  const taps = tapOffsets(layer);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const corner = (row * strides[0] * padded.width + column * strides[1]) * channels;
      for (let group = 0; group < groups; group++) {
        const first = corner + group * inGroup;
        const mean = center ? patchMean(padded.values, first, taps, inGroup) : 0;
        let squares = 0;
        let k = group * kernels;
        for (const tap of taps) {
          for (let c = 0; c < inGroup; c++, k += out) {
            const s = padded.values[first + tap + c] - mean;
            if (s === 0) continue;
            squares += s * s;
            for (let o = 0; o < kernels; o++) y[at + o] += s * direction[k + o];
          }
        }
        const patch = Math.sqrt(squares);
        for (let o = 0; o < kernels; o++, at++) {
          const kernel = group * kernels + o;
          const length = patch + q[kernel];
          if (!(length > 0)) continue; // a patch of zeros: 0
          const cosine = y[at] / length;
          const power = (cosine * cosine + EPSILON ** 2) ** ((p[kernel] - 1) / 2);
          factors[at] = (power * scale[kernel] * (norm ? patch : 1)) / length;
          y[at] *= factors[at];
        }
      }
    }
  }
  return { y, factors };
}

/** The gradient of the input of an SCS layer, its factors held. */
function similarityBackward(layer, factors, gradient) {
  const { strides, groups, output, input } = layer;
  const { direction } = layer.weights;
  const [height, width, out] = output;
  const channels = input[2];
  const inGroup = channels / groups;
  const kernels = out / groups;
  const padded = pad(layer, null);
  const taps = tapOffsets(layer);
  const slopes = new Float64Array(kernels);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const corner = (row * strides[0] * padded.width + column * strides[1]) * channels;
      for (let group = 0; group < groups; group++, at += kernels) {
        let any = false;
        for (let o = 0; o < kernels; o++) {
          slopes[o] = gradient[at + o] * factors[at + o];
          any ||= slopes[o] !== 0;
        }
        if (!any) continue;
        let k = group * kernels;
        for (const tap of taps) {
          const place = corner + group * inGroup + tap;
          for (let c = 0; c < inGroup; c++, k += out) {
            let sum = 0;
            for (let o = 0; o < kernels; o++) sum += slopes[o] * direction[k + o];
            padded.values[place + c] += sum;
          }
        }
      }
    }
  }
  const result = crop(layer, padded);
  return layer.weights.center ? withoutMean(result, channels, groups) : result;
}

/**
 * Subtracts the mean of each group of channels. Zeros around the result then stand for the mean.
 *
 * The first value is subtracted before, so that the mean of equal values is exact. The function is
 * linear and its own transpose.
 */
function withoutMean(x, channels, groups) {
  const inGroup = channels / groups;
  const means = new Float64Array(groups);
  const groupOf = (i) => Math.floor((i % channels) / inGroup);
  const y = x.map((value, i) => value - x[groupOf(i) * inGroup]);
  y.forEach((value, i) => (means[groupOf(i)] += (value * groups) / x.length));
  return y.map((value, i) => value - means[groupOf(i)]);
}

/** The mean of a patch in a group, exact if all its values are equal. */
function patchMean(values, start, taps, inGroup) {
  const first = values[start];
  let sum = 0;
  for (const tap of taps) {
    for (let c = 0; c < inGroup; c++) sum += values[start + tap + c] - first;
  }
  return first + sum / (taps.length * inGroup);
}

/** Where the positions of a window lie in the padded image, seen from its corner. */
function tapOffsets({ window, dilation, pads, input }) {
  const width = input[1] + pads[1][0] + pads[1][1];
  const offsets = [];
  for (let row = 0; row < window[0]; row++) {
    for (let column = 0; column < window[1]; column++) {
      offsets.push((row * dilation[0] * width + column * dilation[1]) * input[2]);
    }
  }
  return offsets;
}

/** Returns the image with its padding of zeros, or zeros of that shape if `x` is null. */
function pad({ input, pads }, x) {
  const [rows, columns, channels] = input;
  const height = rows + pads[0][0] + pads[0][1];
  const width = columns + pads[1][0] + pads[1][1];
  const values = new Float64Array(height * width * channels);
  const length = columns * channels;
  for (let row = 0; x && row < rows; row++) {
    const start = ((row + pads[0][0]) * width + pads[1][0]) * channels;
    values.set(x.subarray(row * length, (row + 1) * length), start);
  }
  return { values, width };
}

/** Takes the padding away. */
function crop({ input, pads }, { values, width }) {
  const [rows, columns, channels] = input;
  const result = new Float64Array(rows * columns * channels);
  const length = columns * channels;
  for (let row = 0; row < rows; row++) {
    const start = ((row + pads[0][0]) * width + pads[1][0]) * channels;
    result.set(values.subarray(start, start + length), row * length);
  }
  return result;
}

/** Keeps the value of largest magnitude; of a and -a the positive one, of equals the first. */
function absMaxPool({ window, strides, pads, input, output }, x) {
  const [rows, columns, channels] = input;
  const [height, width] = output;
  const y = new Float64Array(size(output));
  const picks = new Int32Array(y.length).fill(-1); // a window of nothing but padding gives 0
  for (let row = 0, at = 0; row < height; row++) {
    const top = row * strides[0] - pads[0][0];
    for (let column = 0; column < width; column++) {
      const left = column * strides[1] - pads[1][0];
      for (let channel = 0; channel < channels; channel++, at++) {
        for (let i = Math.max(top, 0); i < Math.min(top + window[0], rows); i++) {
          for (let j = Math.max(left, 0); j < Math.min(left + window[1], columns); j++) {
            const place = (i * columns + j) * channels + channel;
            const difference = Math.abs(x[place]) - Math.abs(y[at]);
            const wins = difference > 0 || (difference === 0 && x[place] > y[at]);
            if (picks[at] >= 0 && !wins) continue;
            y[at] = x[place];
            picks[at] = place;
          }
        }
      }
    }
  }
  return { y, factors: picks };
}

function magnitude(layer, x) {
  return { y: x.map(Math.abs), factors: x.map(Math.sign) };
}

function head({ kernel, bias }, x) {
  const y = Float64Array.from(bias);
  for (let i = 0, k = 0; i < x.length; i++) {
    for (let o = 0; o < y.length; o++, k++) y[o] += x[i] * kernel[k];
  }
  return { y, factors: null };
}
