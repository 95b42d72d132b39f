// The list of what was found: a row for each object or name, with its colour and how sure the model is.

import { colourOf } from './draw.js';
import { GRADIENT } from './heat.js';
import { answered, drop, models, next, setPlace, state } from './state.js';
import { place } from './words.js';

const WHEEL = 'conic-gradient(#e0453c, #d8c52c, #33a357, #2f86d8, #a23fc4, #e0453c)';
const EMPTY = {
  objects: 'Click on a thing in the picture, or draw a box around it.',
  names: 'Type names and press Find.',
  similar: 'Type names and press Find; then choose one.',
};

// changed: called after every change.
export function showRows(list, nothing, scale, changed) {
  const model = models()[0];
  const { answer } = answered(model);
  const rows = state.picture ? { objects: ofObjects, names: ofNames, similar: ofSimilar, features: ofFeatures }[state.view](answer) : [];
  const focused = document.activeElement?.dataset?.row;
  list.replaceChildren(...rows.map(row => item(row, changed)));
  if (focused) list.querySelector(`[data-row="${CSS.escape(focused)}"]`)?.focus();
  nothing.textContent = rows.length ? explained(answer) : state.picture ? EMPTY[state.view] : 'Begin with a picture.';
  scale.hidden = !rows.length || !(state.view === 'similar' || (state.view === 'features' && state.alike));
}

function explained(answer) {
  if (state.view === 'names') return 'Choose a name to see what is like it.';
  if (state.view === 'similar') return 'Cosine of each cell’s embedding to that of the chosen name.';
  if (state.view !== 'features') return '';
  if (state.alike) return 'Cosine of each cell’s features to those of the framed cell.';
  const whose = answer?.borrowed ? 'the parent’s features' : 'the features';
  const both = answer?.borrowed ? ', in both models' : '';
  const share = answer?.colours ? ` ${models()[0].title}: ${percent(answer.share)} of the variance.` : '';
  return `Three principal components of ${whose} are red, green and blue: like colours, like features${both}.${share}`;
}

function ofObjects(answer) {
  return state.things.map((thing, number) => {
    const found = answer?.things[number];
    const name = found?.name ? `${found.name} ${percent(found.score)}` : `Object ${number + 1}`;
    return {
      key: `object ${number}`,
      colour: colourOf(number),
      text: found?.name ? `${number + 1}  ${name}` : name,
      note: found ? `mask ${percent(found.iou)}` : '',
      chosen: number === state.current,
      pick: () => { if (number === state.current) next(); else state.current = number; },
      drop: () => drop(number),
      dropped: `Remove object ${number + 1}`,
    };
  });
}

function ofNames(answer) {
  return state.names.map((name, number) => {
    const things = answer?.things.filter(each => each.name === name) ?? [];
    const region = answer?.regions.find(each => each.name === name);
    const share = region && region.area / (state.picture.width * state.picture.height);
    const note = things.length ? `${things.length > 1 ? `${things.length}, best ` : ''}${percent(Math.max(...things.map(each => each.score)))}`
      : region ? `${percent(share)} of it` : answer ? 'not found' : '';
    return {
      key: `name ${name}`, colour: colourOf(number), text: name, note,
      pick: () => Object.assign(state, { view: 'similar', heated: name }),
    };
  });
}

function ofSimilar() {
  return state.names.map((name, number) => ({
    key: `name ${name}`, colour: colourOf(number), text: name, note: '', chosen: name === state.heated,
    pick: () => { state.heated = name; },
  }));
}

function ofFeatures() {
  const several = state.tasks.length > 1;
  const row = (task, alike, colour, text) => ({
    key: `${alike ? 'alike' : 'features'} ${task}`, colour, text, note: several ? task : '',
    chosen: state.task === task && state.alike === alike,
    pick: () => Object.assign(state, { task, alike }),
  });
  const colours = state.tasks.map(task => row(task, false, WHEEL, 'Features as colours'));
  if (!state.place) return colours;
  const text = `Like the place at ${place()}`;
  const alike = state.tasks.map(task => ({ ...row(task, true, GRADIENT, text), drop: () => setPlace(null), dropped: 'Remove the place' }));
  return [...colours, ...alike];
}

const percent = value => `${Math.round(100 * Math.min(Math.max(value, 0), 1))}\u00a0%`; // a guess of an IoU may lie beyond

function item(row, changed) {
  const made = document.createElement('li');
  made.classList.toggle('chosen', Boolean(row.chosen));
  const pick = button('pick', row.key, () => { row.pick(); changed(); });
  const [swatch, text, note] = ['i', 'b', 'span'].map(kind => document.createElement(kind));
  swatch.style.background = row.colour;
  text.textContent = row.text;
  note.textContent = row.note;
  pick.append(swatch, text, note);
  if (row.chosen !== undefined) pick.setAttribute('aria-pressed', String(row.chosen));
  made.append(pick);
  if (row.drop) {
    const away = button('drop', `drop ${row.key}`, () => { row.drop(); changed(); });
    away.textContent = '×';
    away.setAttribute('aria-label', row.dropped);
    made.append(away);
  }
  return made;
}

function button(kind, key, act) {
  const made = document.createElement('button');
  Object.assign(made, { type: 'button', className: kind, onclick: act });
  made.dataset.row = key;
  return made;
}
