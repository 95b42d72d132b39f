// The result as files: what is seen as a PNG, and all that was answered as JSON.

import { draw, colourOf } from './draw.js';
import { answered, models, results, state } from './state.js';
import { place } from './words.js';

const LEAST = 640; // pixels of the longer side of a saved picture
const GAP = 16, LINE = 30;

export function savePicture() {
  const { picture } = state;
  const scale = Math.max(1, LEAST / Math.max(picture.width, picture.height));
  const unit = Math.max(1, Math.max(picture.width, picture.height) * scale / 900);
  const shown = models();
  const [width, height] = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
  const canvas = document.createElement('canvas');
  canvas.width = GAP + shown.length * (width + GAP);
  const pen = canvas.getContext('2d');
  const lines = wrap(pen, legend(), canvas.width - 2 * GAP, unit);
  canvas.height = Math.round(LINE * unit + height + GAP / 2 + (lines.length * LINE + GAP) * unit);
  pen.fillStyle = '#ffffff';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  shown.forEach((model, number) => {
    const left = GAP + number * (width + GAP);
    label(pen, model.title, left, LINE * unit / 2, unit, 600);
    const part = document.createElement('canvas');
    Object.assign(part, { width, height });
    draw(part.getContext('2d'), { ...state, heatedName: state.heated, answer: answered(model).answer, scale, unit });
    pen.drawImage(part, left, LINE * unit);
  });
  lines.forEach((line, number) => {
    const y = LINE * unit + height + GAP / 2 + (number + 0.5) * LINE * unit;
    for (const { left, colour, text } of line) {
      pen.fillStyle = colour ?? '#ffffff';
      pen.fillRect(GAP + left, y - 8 * unit, 16 * unit, 16 * unit);
      label(pen, text, GAP + left + (colour ? 24 * unit : 0), y, unit, 400);
    }
  });
  canvas.toBlob(blob => give(blob, 'png'), 'image/png');
}

export function saveAnswers() {
  const { about, picture, things, names } = state;
  const content = {
    model: about.name,
    vfmerge: about.version,
    picture: { name: picture.called, width: picture.width, height: picture.height },
    things,
    names,
    colours: 'of cells, row by row: red, green and blue of each',
    values: 'cosines of cells, row by row',
    masks: 'run lengths in the compressed form of COCO (pycocotools.mask.decode)',
    answers: results(),
  };
  give(new Blob([JSON.stringify(content, null, 1) + '\n'], { type: 'application/json' }), 'json');
}

function legend() {
  if (state.view === 'features') {
    return [{ text: state.alike ? `${state.task}: similarity to the cell at ${place()}` : `${state.task}: principal components of the features as red, green and blue` }];
  }
  if (state.view === 'similar') return [{ colour: colourOf(state.names.indexOf(state.heated)), text: `similarity to ${state.heated}` }];
  if (state.view === 'names') return state.names.map((text, number) => ({ colour: colourOf(number), text }));
  const { answer } = answered(models()[0]);
  return state.things.map((_, number) => ({
    colour: colourOf(number), text: `${number + 1} ${answer?.things[number]?.name ?? 'object'}`,
  }));
}

function label(pen, text, x, y, unit, weight) {
  pen.fillStyle = '#1c1c1c';
  pen.font = `${weight} ${14 * unit}px system-ui, sans-serif`;
  pen.textBaseline = 'middle';
  pen.fillText(text, x, y);
}

// Entries of a legend in lines that fit, each with its left edge.
function wrap(pen, entries, width, unit) {
  const lines = [];
  let left = Infinity;
  pen.font = `400 ${14 * unit}px system-ui, sans-serif`;
  for (const entry of entries) {
    const wide = 48 * unit + pen.measureText(entry.text).width;
    if (left + wide > width) { lines.push([]); left = 0; }
    lines.at(-1).push({ ...entry, left });
    left += wide;
  }
  return lines;
}

function give(blob, kind) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${state.picture.called.replace(/\.[^.]*$/, '')}-${state.view}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
