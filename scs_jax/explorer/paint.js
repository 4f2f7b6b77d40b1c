// Colours: images as they are, and signed arrays from blue over the background to red.

const SCHEME = matchMedia('(prefers-color-scheme: dark)');
const COLOURS = {
  light: ['#08306b', '#4292c6', '#f7f7f7', '#e6604c', '#7f0012'],
  dark: ['#a8d4ff', '#2f7fd0', '#16181d', '#d9472f', '#ffc0a0'],
};
const STEPS = 255; // of each sign
let palette;

/** Takes the colours of the page's scheme; its style sheet gets them as --diverging. */
function choosePalette() {
  const stops = COLOURS[SCHEME.matches ? 'dark' : 'light'].map((hex) =>
    [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)),
  );
  palette = Uint32Array.from({ length: 2 * STEPS + 1 }, (_, i) => {
    const at = (i / (2 * STEPS)) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mixed = stops[low].map((v, c) => Math.round(v + (at - low) * (stops[low + 1][c] - v)));
    return 0xff000000 | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
  });
  const css = stops.map((rgb) => `rgb(${rgb})`).join(', ');
  document.documentElement.style.setProperty('--diverging', `linear-gradient(90deg, ${css})`);
}

/** Paints one channel of a signed array [height, width, depth]; `limit` has the full colour. */
function paintSigned(canvas, values, [height, width, depth], channel, limit) {
  if (!canvas.image) {
    Object.assign(canvas, { width, height, image: new ImageData(width, height) });
  }
  const colours = new Uint32Array(canvas.image.data.buffer);
  for (let i = 0; i < colours.length; i++) {
    const ratio = Math.min(Math.max(values[i * depth + channel] / limit, -1), 1);
    colours[i] = palette[Math.round(STEPS * (1 + ratio))];
  }
  canvas.getContext('2d').putImageData(canvas.image, 0, 0);
}

/** Paints an image of one channel or three; what is outside of 0 to 1 is cut. */
function paintImage(canvas, pixels, [height, width, channels]) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = 255 * pixels[i * channels + (channels === 3 ? c : 0)];
    }
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

/** Fills a container with all colours between two numbers; returns what sets these. */
function legend(container) {
  const [low, high] = [element('span'), element('span')];
  container.append(low, element('span', { className: 'colours' }), high);
  return (limit) => {
    low.textContent = short(-limit);
    high.textContent = `+${short(limit)}`;
  };
}

/** The largest magnitude, and 1 if all values are 0. */
function largest(values) {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most || 1;
}

/** Where the colours of a layer end, so that a few large responses do not hide all others. */
function colourLimit(values) {
  const squares = values.reduce((sum, value) => sum + value * value, 0);
  return Math.min(largest(values), 4 * Math.sqrt(squares / values.length)) || 1;
}
