// What a person is told: what this is, what a click does, what is shown now, and what went wrong.

import { answered, state } from './state.js';

const at = id => document.getElementById(id);
const FINGER = matchMedia('(hover: none)').matches;
const CLICK = FINGER ? 'Tap' : 'Click';

const HINTS = {
  inside: FINGER ? 'Tap inside a thing. More points correct its outline.' : 'Click inside a thing. Right or Shift + click for what is outside of it.',
  outside: `${CLICK} on what does not belong to the chosen object.`,
  box: 'Drag a box around a thing; each box is a new object.',
};
const PLACES = `${CLICK} a place to see which cells are like the one there. Native cells: the picture at the model’s own size.`;

export const say = text => { at('status').textContent = text || '\u00a0'; };
export const quiet = () => { at('trouble').hidden = true; };

let retry = null;

// again: what may help, if anything.
export function trouble(text, again = null) {
  retry = again;
  at('trouble').querySelector('p').textContent = text;
  at('again').hidden = !again;
  at('trouble').hidden = false;
}

export function listen() {
  at('close').addEventListener('click', quiet);
  at('again').addEventListener('click', () => { quiet(); retry?.(); });
}

export function introduce({ models, missing }) {
  const parents = models.slice(1).map(model => model.title.replace(/^Parent /, ''));
  const gone = missing.length ? ` ${missing.length > 1 ? 'Parents' : 'Parent'} ${list(missing)} cannot be shown: the terminal says why.` : '';
  if (parents.length) return `A merged model, beside its ${parents.length > 1 ? 'parents' : 'parent'} ${list(parents)}.${gone}`;
  return `A merged model, without its parents.${gone}`;
}

export function instruct() {
  const comparing = state.view === 'features';
  at('point-title').textContent = comparing ? 'Compare places' : 'Point at things';
  at('hint').textContent = comparing ? PLACES : HINTS[state.tool];
  at('tools').hidden = at('edits').hidden = comparing;
  at('grids').hidden = !comparing;
}

// What is shown, once every question is answered.
export function report(shown) {
  const known = shown.map(model => [model, answered(model)]).filter(([, { answer }]) => answer);
  if (known.length && known.every(([, { fresh }]) => fresh)) {
    say(known.map(([model, { answer }]) => `${model.title}: ${summary(answer)}`).join(' \u00b7 '));
  }
}

function summary({ things, regions, maps, colours, height, width }) {
  if (colours) return `${height} × ${width} cells in colours`;
  if (maps) return `similarity to ${Object.keys(maps).join(', ')}`;
  if (regions) return `${count(regions.length, 'name')} found`;
  if (!things) return `likeness to the cell at ${place()}`;
  const empty = things.filter(each => !each.area).length;
  return `${count(things.length - empty, 'object')} outlined${empty ? `, ${count(empty, 'mask')} empty` : ''}`;
}

export const place = () => `${Math.round(state.place.x)}, ${Math.round(state.place.y)}`;

const count = (number, noun) => `${number || 'no'} ${noun}${number === 1 ? '' : 's'}`;
const list = names => (names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names[0]);
