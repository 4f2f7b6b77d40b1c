// The picture: strokes over a background, and how they become the input of a network.

// MNIST scaled its digits to 20 of 28 pixels and put their centre of mass in pixel 14, on average
// half a pixel behind the middle.
const MNIST_BOX = 20 / 28;
const MNIST_SHIFT = 0.5;
const BRUSH = 2.2; // pixels of the network

/** A picture that one can draw on: `shape` is [height, width, channels] of the network's image. */
class Picture {
  constructor(canvas, shape) {
    const [height, width] = shape;
    this.shape = shape;
    this.scale = Math.max(1, Math.round(280 / Math.max(height, width)));
    canvas.width = width * this.scale;
    canvas.height = height * this.scale;
    this.canvas = canvas;
    this.context = canvas.getContext('2d', { willReadFrequently: true });
    this.context.lineCap = 'round';
    this.clear();
  }

  clear() {
    this.show(new Float64Array(size(this.shape)));
    this.isOwn = true; // what will be drawn is on nothing
  }

  get isEmpty() {
    return this.isOwn && !this.isPainted;
  }

  /** Takes an image as it is. */
  show(pixels) {
    this.pixels = pixels;
    this.isOwn = false;
    this.isPainted = false;
    const small = new OffscreenCanvas(this.shape[1], this.shape[0]);
    paintImage(small, pixels, this.shape);
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draws a line between two points, in pixels of the network. */
  stroke(from, to, erase) {
    const { context, scale } = this;
    context.strokeStyle = erase ? '#000' : '#fff';
    context.lineWidth = BRUSH * scale;
    context.beginPath();
    context.moveTo(from[0] * scale, from[1] * scale);
    context.lineTo(to[0] * scale, to[1] * scale);
    context.stroke();
    this.isPainted = true;
  }

  /** Returns the image for the network; `fit` scales and centres what was drawn on nothing. */
  read(fit) {
    if (!this.isPainted) return this.pixels;
    const { width, height } = this.canvas;
    const { data } = this.context.getImageData(0, 0, width, height);
    if (fit && this.isOwn && this.shape[2] === 1) return fitted(data, width, height, this.shape);
    return averaged(data, width, this.scale, this.shape);
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Draws with pointer and keys; `cursor` shows where the keys have moved the pen. */
function enableDrawing(picture, cursor, isErasing, onChange) {
  const { canvas } = picture;
  const [rows, columns] = picture.shape;
  const pen = { at: [columns / 2, rows / 2], isDown: false, pointer: null };

  const drawTo = (point) => {
    picture.stroke(pen.at, point, isErasing());
    pen.at = point;
    onChange();
  };
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return [(x / box.width) * columns, (y / box.height) * rows];
  };
  const showCursor = () => {
    cursor.hidden = !canvas.matches(':focus-visible');
    cursor.classList.toggle('down', pen.isDown);
    cursor.style.left = `${(100 * pen.at[0]) / columns}%`;
    cursor.style.top = `${(100 * pen.at[1]) / rows}%`;
  };

  canvas.onpointerdown = (event) => {
    if (event.button !== 0) return;
    if (event.isTrusted) canvas.setPointerCapture(event.pointerId); // a script's cannot be captured
    pen.pointer = event.pointerId;
    pen.at = placeOf(event);
    drawTo(pen.at);
  };
  canvas.onpointermove = (event) => {
    if (event.pointerId !== pen.pointer) return;
    const parts = event.getCoalescedEvents?.() ?? [];
    for (const part of parts.length ? parts : [event]) drawTo(placeOf(part));
  };
  canvas.onpointerup = canvas.onpointercancel = () => {
    pen.pointer = null;
  };
  canvas.onkeydown = (event) => {
    if (event.key === ' ' || event.key === 'Enter') {
      pen.isDown = !pen.isDown;
      if (pen.isDown) drawTo(pen.at);
    } else if (event.key in ARROWS) {
      const [right, down] = ARROWS[event.key];
      const inside = (place, end) => Math.min(Math.max(place, 0), end);
      const point = [inside(pen.at[0] + right, columns), inside(pen.at[1] + down, rows)];
      if (pen.isDown) drawTo(point);
      pen.at = point;
    } else return;
    event.preventDefault(); // the page does not scroll
    showCursor();
  };
  canvas.onfocus = showCursor;
  canvas.onblur = () => {
    pen.isDown = false;
    cursor.hidden = true;
  };
}

/** Returns the mean colour of each block of scale × scale pixels. */
function averaged(data, width, scale, shape) {
  const [rows, columns, channels] = shape;
  const pixels = new Float64Array(size(shape));
  for (let i = 0; i < rows * scale; i++) {
    for (let j = 0; j < width; j++) {
      const place = (Math.floor(i / scale) * columns + Math.floor(j / scale)) * channels;
      for (let c = 0; c < channels; c++) pixels[place + c] += data[(i * width + j) * 4 + c];
    }
  }
  return pixels.map((sum) => sum / (255 * scale * scale));
}

/** Returns a drawing as MNIST made its digits: scaled to a box, its centre of mass in the middle. */
function fitted(data, width, height, [rows, columns]) {
  // Sums of all ink above and left of a corner: the ink of any rectangle in four look-ups.
  const sums = new Float64Array((width + 1) * (height + 1));
  let [ink, x, y] = [0, 0, 0];
  let [left, right, top, bottom] = [width, 0, height, 0];
  for (let i = 0; i < height; i++) {
    for (let j = 0, line = 0; j < width; j++) {
      const value = data[(i * width + j) * 4] / 255;
      line += value;
      sums[(i + 1) * (width + 1) + j + 1] = sums[i * (width + 1) + j + 1] + line;
      if (value === 0) continue;
      ink += value;
      x += value * (j + 0.5);
      y += value * (i + 0.5);
      left = Math.min(left, j);
      right = Math.max(right, j + 1);
      top = Math.min(top, i);
      bottom = Math.max(bottom, i + 1);
    }
  }
  const pixels = new Float64Array(rows * columns);
  if (ink === 0) return pixels; // all of it was erased
  const box = MNIST_BOX * Math.min(rows, columns);
  const step = Math.max(right - left, bottom - top) / box;
  const sumTo = (vertical, horizontal) => {
    const i = Math.min(Math.max(vertical, 0), height);
    const j = Math.min(Math.max(horizontal, 0), width);
    const [low, before] = [Math.floor(i), Math.floor(j)];
    const [down, across] = [i - low, j - before];
    const corner = (a, b) => sums[Math.min(a, height) * (width + 1) + Math.min(b, width)];
    const upper = corner(low, before) * (1 - across) + corner(low, before + 1) * across;
    const lower = corner(low + 1, before) * (1 - across) + corner(low + 1, before + 1) * across;
    return upper * (1 - down) + lower * down;
  };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const i = y / ink + (row - rows / 2 - MNIST_SHIFT) * step;
      const j = x / ink + (column - columns / 2 - MNIST_SHIFT) * step;
      const sum = sumTo(i + step, j + step) - sumTo(i, j + step) - sumTo(i + step, j) + sumTo(i, j);
      pixels[row * columns + column] = Math.min(Math.max(sum / (step * step), 0), 1);
    }
  }
  return pixels;
}

/** Returns an image file as the network's image: cut to its proportions and scaled. */
async function imageFrom(file, shape) {
  const [height, width, channels] = shape;
  const bitmap = await createImageBitmap(file);
  const zoom = Math.min(bitmap.width / width, bitmap.height / height);
  const part = [Math.max(1, Math.round(width * zoom)), Math.max(1, Math.round(height * zoom))];
  const left = Math.floor((bitmap.width - part[0]) / 2);
  const top = Math.floor((bitmap.height - part[1]) / 2);
  const scaled = await createImageBitmap(bitmap, left, top, ...part, {
    resizeWidth: width,
    resizeHeight: height,
    resizeQuality: 'high',
  });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  context.fillStyle = '#fff'; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(scaled, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Float64Array.from({ length: size(shape) }, (_, i) => {
    const place = Math.floor(i / channels) * 4;
    if (channels === 3) return data[place + (i % 3)] / 255;
    return (0.299 * data[place] + 0.587 * data[place + 1] + 0.114 * data[place + 2]) / 255;
  });
}
