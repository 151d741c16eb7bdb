"use strict";
// Places are in pixels of the map as shown, from its upper left corner; lengths on the screen are in CSS pixels.

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const data = JSON.parse(byId("data").textContent);
const map = data.map;
const canvas = byId("canvas");
const context = canvas.getContext("2d");
// The height of a map's pixel by its width; not 1 where the map counts in degrees.
const stretch = map.metres ? map.metres[1] / map.metres[0] : 1;
const LARGEST_PIXEL = 64;

const view = { x: map.width / 2, y: map.height / 2, scale: 1, fitted: true };
// From the lowest to the uppermost: the true-colour image, where there is one, and the layers of the map.
const drawn = [];

start().catch(report);
window.addEventListener("error", (event) => report(event.error));

async function start() {
  if (data.images) addImages(data.images);
  for (const layer of data.layers) {
    layer.levels = await unpack(layer.levels);
    layer.colours = new Uint8ClampedArray((await unpack(layer.colours)).buffer);
    const painted = paint(layer);
    addLayer(layer, (target) => target.drawImage(painted, 0, 0, map.width, map.height));
  }
  addCoordinates("position", map.crs || "Pixels");
  if (map.places) addCoordinates("lonlat", "Longitude, latitude");
  for (const note of data.notes) byId("notes").append(element("p", { textContent: note }));
  listen();
  read({ x: view.x, y: view.y });
}

function report(error) {
  byId("message").textContent = `This page cannot be shown: ${error}. It needs a browser of 2023 or later.`;
}

// === Layers ===

async function unpack(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function paint(layer) {
  const image = new ImageData(map.width, map.height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = new Uint32Array(layer.colours.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[layer.levels[i]];
  const painted = element("canvas", { width: map.width, height: map.height });
  painted.getContext("2d").putImageData(image, 0, 0);
  return painted;
}

function addImages({ box, frames }) {
  const [left, top, right, bottom] = box;
  const image = new Image();
  const slider = byId("frame");
  const show = () => {
    const frame = frames[slider.value];
    image.src = `data:image/jpeg;base64,${frame.jpeg}`;
    byId("date").textContent = `${frame.date}, ${Math.round(100 * frame.clear)} % clear`;
    slider.setAttribute("aria-valuetext", byId("date").textContent);
  };
  image.onload = draw;
  slider.max = frames.length - 1;
  // Of equally clear dates that in the middle, when most is green, is shown first.
  const clearest = Math.max(...frames.map((frame) => frame.clear));
  const best = [...frames.keys()].filter((i) => frames[i].clear === clearest);
  slider.value = best[Math.floor(best.length / 2)];
  slider.addEventListener("input", show);
  byId("time").hidden = false;
  show();
  addLayer({ name: "image", title: "True colour", opacity: 1 }, (target) => {
    if (image.complete) target.drawImage(image, left, top, right - left, bottom - top);
  });
}

function addLayer(layer, paintOn) {
  const opacity = layer.opacity || 1;
  const shown = element("input", { type: "checkbox", id: `show-${layer.name}`, checked: layer.opacity > 0 });
  const slider = element("input", { type: "range", id: `opacity-${layer.name}`, max: 100, value: 100 * opacity });
  slider.setAttribute("aria-label", `Opacity of ${layer.title}`);
  slider.title = "Opacity";
  // Whoever moves the slider of a hidden layer wants to see it.
  slider.addEventListener("input", () => (shown.checked = true));
  for (const input of [shown, slider]) input.addEventListener("input", draw);
  const label = element("label", {}, shown, ` ${layer.title}`);
  const value = element("output", { id: `value-${layer.name}` });
  byId("layers").append(element("li", {}, label, value, slider, ...(layer.colours ? [legend(layer)] : [])));
  drawn.push({ paintOn, opacity: () => (shown.checked ? slider.value / 100 : 0) });
}

function legend(layer) {
  const css = (level) => `rgb(${layer.colours.subarray(4 * level, 4 * level + 3).join(" ")})`;
  if (layer.classes) {
    const swatches = layer.classes.map((name, level) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = css(level);
      return element("span", {}, swatch, name);
    });
    return element("div", { className: "legend" }, ...swatches);
  }
  const ramp = element("canvas", { width: map.levels + 1, height: 1 });
  const target = ramp.getContext("2d");
  for (let level = 0; level <= map.levels; level++) {
    target.fillStyle = css(level);
    target.fillRect(level, 0, 1, 1);
  }
  const ticks = layer.ticks.map((text) => element("span", { textContent: text }));
  return element("div", { className: "legend" }, ramp, ...ticks);
}

function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// === Drawing ===

function draw() {
  const density = window.devicePixelRatio || 1;
  const scale = view.scale * density;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const [left, top] = [canvas.width / 2 - view.x * scale, canvas.height / 2 - view.y * scale * stretch];
  context.setTransform(scale, 0, 0, scale * stretch, left, top);
  // Pixels stay sharp squares once they are larger than the screen's.
  context.imageSmoothingEnabled = scale < 1;
  for (const layer of drawn) {
    context.globalAlpha = layer.opacity();
    if (context.globalAlpha > 0) layer.paintOn(context);
  }
  drawScaleBar();
}

function drawScaleBar() {
  const bar = byId("scale-bar");
  const unit = map.metres ? 1 / map.metres[0] : 1;
  const longest = 140 / (view.scale * unit);
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = power * [5, 2, 1].find((step) => step * power <= longest);
  bar.style.width = `${length * unit * view.scale}px`;
  const [value, name] = !map.metres ? [length, "pixels"] : length < 1000 ? [length, "m"] : [length / 1000, "km"];
  bar.textContent = `${+value.toPrecision(1)} ${name}`;
}

// === Moving ===

function fittingScale() {
  return Math.min(canvas.clientWidth / map.width, canvas.clientHeight / (map.height * stretch));
}

function fit() {
  Object.assign(view, { x: map.width / 2, y: map.height / 2, scale: fittingScale(), fitted: true });
  draw();
}

function move(right, down) {
  view.x = clamp(view.x - right / view.scale, 0, map.width);
  view.y = clamp(view.y - down / (view.scale * stretch), 0, map.height);
  view.fitted = false;
  draw();
}

// `at`, from the middle of the screen, stays where it is.
function zoom(factor, at = { x: 0, y: 0 }) {
  const least = fittingScale() / 2;
  const scale = clamp(view.scale * factor, least, Math.max(LARGEST_PIXEL, least));
  const growth = scale / view.scale;
  view.scale = scale;
  move(at.x * (1 - growth), at.y * (1 - growth));
}

function fromMiddle(event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
}

function listen() {
  const pointers = new Map();
  const middle = () => {
    const all = [...pointers.values()];
    return { x: mean(all.map((at) => at.x)), y: mean(all.map((at) => at.y)) };
  };
  const spread = () => {
    const [one, other] = pointers.values();
    return other ? Math.hypot(one.x - other.x, one.y - other.y) : 1;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, fromMiddle(event));
    readAt(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (pointers.has(event.pointerId)) {
      const [from, before] = [middle(), spread()];
      pointers.set(event.pointerId, fromMiddle(event));
      const to = middle();
      move(to.x - from.x, to.y - from.y);
      zoom(spread() / before, to);
    }
    readAt(event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // Lines and pages, where the wheel counts so, as pixels.
      const turn = event.deltaY * [1, 30, 300][event.deltaMode];
      zoom(2 ** clamp(-turn / 200, -1, 1), fromMiddle(event));
    },
    { passive: false },
  );
  byId("zoom-in").addEventListener("click", () => zoom(2));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 2));
  byId("zoom-fit").addEventListener("click", fit);
  const step = 60;
  const keys = {
    ArrowLeft: () => move(step, 0),
    ArrowRight: () => move(-step, 0),
    ArrowUp: () => move(0, step),
    ArrowDown: () => move(0, -step),
    "+": () => zoom(2),
    "=": () => zoom(2),
    "-": () => zoom(1 / 2),
    0: fit,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
    byId("cross").hidden = false;
    read({ x: view.x, y: view.y });
  });
  new ResizeObserver(() => {
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * density);
    canvas.height = Math.round(canvas.clientHeight * density);
    if (view.fitted) fit();
    else draw();
  }).observe(canvas);
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

// === Reading ===

function addCoordinates(name, title) {
  byId("coordinates").append(element("dt", { textContent: title }), element("dd", { id: `value-${name}` }));
}

function readAt(event) {
  byId("cross").hidden = true;
  const at = fromMiddle(event);
  read({ x: view.x + at.x / view.scale, y: view.y + at.y / (view.scale * stretch) });
}

function read({ x, y }) {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const inside = column >= 0 && row >= 0 && column < map.width && row < map.height;
  for (const layer of data.layers) {
    const level = inside ? layer.levels[row * map.width + column] : map.nodata;
    const value = layer.classes ? layer.classes[level] : (level / map.levels).toFixed(3);
    byId(`value-${layer.name}`).textContent = !inside ? "outside" : level === map.nodata ? "no data" : value;
  }
  const [a, b, c, d, e, f] = map.transform;
  const position = [a * x + b * y + c, d * x + e * y + f];
  byId("value-position").textContent = position.map((value) => value.toFixed(map.digits)).join(", ");
  if (map.places) {
    const [longitude, latitude] = map.places.values.map((values) => interpolate(values, map.places.cells, x, y));
    byId("value-lonlat").textContent = [((longitude + 540) % 360) - 180, latitude]
      .map((value) => value.toFixed(6))
      .join(", ");
  }
}

// Bilinear, between values on a regular grid whose corners are the map's.
function interpolate(values, cells, x, y) {
  const place = (share) => {
    const first = clamp(Math.floor(share * cells), 0, cells - 1);
    return [first, share * cells - first];
  };
  const [column, right] = place(x / map.width);
  const [row, down] = place(y / map.height);
  const at = (i, j) => values[i * (cells + 1) + j];
  const above = at(row, column) * (1 - right) + at(row, column + 1) * right;
  const below = at(row + 1, column) * (1 - right) + at(row + 1, column + 1) * right;
  return above * (1 - down) + below * down;
}
