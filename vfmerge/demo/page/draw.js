// What is drawn on a picture: masks and label maps in colour, similarity as heat, features in colours, points and boxes.

import { heat, rgb } from './heat.js';
import { decode } from './runs.js';
import { state } from './state.js';

// Of a name or a thing, by its number; the same as in the overlays of `vfmerge predict`.
export const colourOf = number => state.about.colours[number % state.about.colours.length];

const LONG = 18; // letters of a name on a picture
const OPACITY = 0.65; // of colours on grey

const decoded = new WeakMap(); // masks by their run lengths
const layers = new WeakMap(); // pixels made of an answer or a picture

function mask(runs) {
  if (!decoded.has(runs)) decoded.set(runs, decode(runs));
  return decoded.get(runs);
}

function sheet(width, height, paint) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  const data = pen.createImageData(width, height);
  paint(data.data);
  pen.putImageData(data, 0, 0);
  return canvas;
}

// A picture without its colours, so that those of names stand out.
function grey(image) {
  if (!layers.has(image)) {
    const plain = document.createElement('canvas');
    Object.assign(plain, { width: image.width, height: image.height });
    const pen = plain.getContext('2d', { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, image.width, image.height);
    layers.set(image, sheet(image.width, image.height, made => {
      for (let at = 0; at < data.length; at += 4) {
        const light = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
        made[at] = made[at + 1] = made[at + 2] = light;
        made[at + 3] = 255;
      }
    }));
  }
  return layers.get(image);
}

// Masks in their colours on the picture's grey, the larger below; remembered with the answer.
function coloured(answer, masks, image) {
  if (!layers.has(answer)) {
    const order = [...masks].sort((one, other) => other.mask.area - one.mask.area);
    const { width, height } = masks[0].mask;
    const light = grey(image).getContext('2d').getImageData(0, 0, width, height).data;
    layers.set(answer, sheet(width, height, data => {
      for (const { mask: { bits }, colour } of order) {
        const [red, green, blue] = rgb(colour).map(value => OPACITY * value);
        for (let at = 0, to = 0; at < bits.length; at++, to += 4) {
          if (!bits[at]) continue;
          const under = (1 - OPACITY) * light[to];
          data[to] = under + red; data[to + 1] = under + green; data[to + 2] = under + blue; data[to + 3] = 255;
        }
      }
    }));
  }
  return layers.get(answer);
}

function heated(answer, values) {
  if (!layers.has(answer)) {
    const least = Math.min(...values), range = Math.max(...values) - least || 1;
    layers.set(answer, sheet(answer.width, answer.height, data => {
      values.forEach((value, at) => data.set([...heat((value - least) / range), 255], 4 * at));
    }));
  }
  return layers.get(answer);
}

// Features of cells: a pixel for each.
function painted(answer) {
  if (!layers.has(answer)) {
    layers.set(answer, sheet(answer.width, answer.height, data => {
      for (let from = 0, to = 0; from < answer.colours.length; from += 3, to += 4) {
        data.set([answer.colours[from], answer.colours[from + 1], answer.colours[from + 2], 255], to);
      }
    }));
  }
  return layers.get(answer);
}

// All features in colours, or how like one cell the others are, that one framed.
function compare(pen, answer, { width, height, image }, scale, unit) {
  pen.imageSmoothingEnabled = false; // cells are what they are
  if (answer.colours) return pen.drawImage(painted(answer), 0, 0, width, height);
  pen.drawImage(grey(image), 0, 0, width, height);
  pen.globalAlpha = 0.72;
  pen.drawImage(heated(answer, answer.values), 0, 0, width, height);
  pen.globalAlpha = 1;
  const [wide, high] = [width / answer.width, height / answer.height];
  const [left, top] = [answer.column * wide, answer.row * high];
  frame(pen, { x0: left, y0: top, x1: left + wide, y1: top + high }, scale, unit, true);
  return ring(pen, left + wide / 2, top + high / 2, (Math.hypot(wide, high) / 2) + 5 * unit / scale, scale, unit);
}

// Around a cell that may be too small to be seen.
function ring(pen, x, y, radius, scale, unit) {
  for (const [colour, wide] of [['#1a1a1a', 4], ['#ffffff', 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide * unit / scale;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.stroke();
  }
}

// Draw a picture and what is known of it. scale: pixels of the canvas for one of the picture; unit: of a CSS pixel.
export function draw(pen, { picture, view, answer, names, heatedName, things, current, box, cursor, scale, unit }) {
  const { width, height, image } = picture;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = 'high';
  pen.globalAlpha = 1;
  const values = view === 'similar' && answer?.maps?.[heatedName];
  const regions = view === 'names' && answer ? answer.regions : null;
  pen.drawImage(values || regions ? grey(image) : image, 0, 0, width, height);
  if (values) {
    pen.globalAlpha = 0.72;
    pen.drawImage(heated(answer, values), 0, 0, width, height);
  } else if (regions) {
    const known = regions.filter(each => names.includes(each.name)); // an older answer may have others
    const masks = known.map(each => ({ mask: mask(each.mask), colour: colourOf(names.indexOf(each.name)) }));
    tint(pen, answer, masks, image, scale, unit);
    const parts = answer.things.length ? answer.things : regions;
    for (const each of parts) write(pen, mask(each.mask), each.name, scale, unit);
  } else if (view === 'objects' && answer) {
    const masks = answer.things.map((each, number) => ({ mask: mask(each.mask), colour: colourOf(number) }));
    tint(pen, answer, masks, image, scale, unit);
  }
  pen.globalAlpha = 1;
  if (view === 'features' && answer) compare(pen, answer, picture, scale, unit);
  if (view === 'objects') things.forEach((thing, number) => mark(pen, thing, { number, chosen: number === current, scale, unit }));
  if (view === 'objects' && answer) {
    answer.things.forEach((each, number) => {
      if (each.name && things[number]) write(pen, mask(each.mask), each.name, scale, unit, things[number]);
    });
  }
  if (box) frame(pen, box, scale, unit, true);
  if (cursor) cross(pen, cursor, scale, unit);
}

function tint(pen, answer, masks, image, scale, unit) {
  if (!masks.length) return;
  pen.drawImage(coloured(answer, masks, image), 0, 0);
  pen.lineJoin = pen.lineCap = 'round';
  for (const [colour, wide] of [['rgb(20 20 20 / .8)', 3], ['#ffffff', 1.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide * unit / scale;
    for (const each of masks) pen.stroke(each.mask.outline);
  }
}

// A name on a mask that is large enough for it; beside its points, if it has some.
function write(pen, { middle, area }, name, scale, unit, thing) {
  if (!middle || area * scale * scale < 500 * unit * unit) return;
  let [x, y] = middle;
  if (thing?.points.some(point => Math.hypot(point.x - x, point.y - y) * scale < 22 * unit)) y += 22 * unit / scale;
  const text = name.length > LONG ? `${name.slice(0, LONG - 1)}…` : name;
  letter(pen, text, x * scale, y * scale, 13 * unit, unit);
}

function letter(pen, text, x, y, size, unit) {
  pen.save();
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  const half = pen.measureText(text).width / 2 + 4 * unit;
  if (2 * half > pen.canvas.width) return pen.restore();
  const left = Math.max(Math.min(x, pen.canvas.width - half), half);
  pen.lineJoin = 'round';
  pen.lineWidth = 3.5 * unit;
  pen.strokeStyle = 'rgb(15 15 15 / .9)';
  pen.strokeText(text, left, y);
  pen.fillStyle = '#ffffff';
  pen.fillText(text, left, y);
  return pen.restore();
}

// The points and box of an object; a point inside has a plus, one outside a minus.
function mark(pen, thing, { number, chosen, scale, unit }) {
  if (thing.box) frame(pen, thing.box, scale, unit, chosen);
  for (const { x, y, inside } of thing.points) {
    const radius = (chosen ? 7.5 : 6) * unit / scale, arm = radius * 0.5;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = inside ? '#ffffff' : '#1a1a1a';
    pen.fill();
    pen.lineWidth = 2 * unit / scale;
    pen.strokeStyle = inside ? '#1a1a1a' : '#ffffff';
    pen.stroke();
    pen.beginPath();
    pen.moveTo(x - arm, y); pen.lineTo(x + arm, y);
    if (inside) { pen.moveTo(x, y - arm); pen.lineTo(x, y + arm); }
    pen.stroke();
  }
  const place = thing.points[0] ?? { x: thing.box.x0, y: thing.box.y0 };
  const off = 14 * unit;
  letter(pen, String(number + 1), place.x * scale + off, place.y * scale - (thing.points[0] ? off : -off), 12 * unit, unit);
}

function frame(pen, { x0, y0, x1, y1 }, scale, unit, chosen) {
  for (const [colour, wide] of [['#1a1a1a', 4], ['#ffffff', 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide * unit / scale;
    pen.setLineDash(chosen ? [] : [5 * unit / scale, 4 * unit / scale]);
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  pen.setLineDash([]);
}

function cross(pen, { x, y }, scale, unit) {
  const long = 14 * unit / scale, gap = 4 * unit / scale;
  for (const [colour, wide] of [['#1a1a1a', 4], ['#ffffff', 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide * unit / scale;
    pen.beginPath();
    for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + right * gap, y + down * gap);
      pen.lineTo(x + right * long, y + down * long);
    }
    pen.stroke();
  }
}
