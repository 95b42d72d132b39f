// The page: controls, pictures, and the questions that follow from them.

import * as ask from './ask.js';
import { heat } from './draw.js';
import { panel } from './panel.js';
import { showRows } from './rows.js';
import { saveAnswers, savePicture } from './save.js';
import * as desk from './state.js';

const { state } = desk;
const at = id => document.getElementById(id);
const busy = new Set(); // models that are being asked
const refused = new Map(); // the question that a model last refused
const panels = new Map();
let typed = false; // whether the names are a person's own
let loading = 0; // pictures that were wanted, to let the last one win

const FINGER = matchMedia('(hover: none)').matches;
const HINTS = {
  inside: FINGER ? 'Tap inside a thing. More points correct its outline.' : 'Click inside a thing. Right or Shift + click for what is outside of it.',
  outside: `${FINGER ? 'Tap' : 'Click'} on what does not belong to the chosen object.`,
  box: 'Drag a box around a thing; each box is a new object.',
};

async function start() {
  listen();
  update();
  try {
    state.about = await ask.about();
  } catch (error) {
    return trouble(error.message);
  }
  const { about } = state;
  document.title = `${about.name} · vfmerge demo`;
  at('name').textContent = about.name;
  at('about').textContent = told(about.models);
  for (const model of about.models) {
    const made = panel(model, { told: (text, quiet) => (quiet ? say(text) : trouble(text)), changed: update });
    panels.set(model.key, made);
    at('panels').append(made.figure);
  }
  offerModels(about.models);
  const names = about.models.some(model => model.does.find), masks = about.models.some(model => model.does.outline);
  for (const [value, able] of [['objects', masks], ['names', names], ['similar', names]]) {
    document.querySelector(`[name=view][value=${value}]`).disabled = !able;
  }
  at('naming').hidden = !names;
  if (!masks) state.view = 'names';
  update();
  await Promise.all(about.examples.map(offerExample));
}

function told(models) {
  const parents = models.slice(1).map(model => model.title.replace(/^Parent /, ''));
  return parents.length ? `A merged model, beside its parents ${parents.join(' and ')}.` : 'A merged model. Its parents are not on this machine.';
}

function offerModels(models) {
  if (models.length < 2) return;
  const choices = [...models.map(({ key, title }) => [key, title.replace(/ model$/, '')]), ['all', 'Side by side']];
  for (const [key, title] of choices) {
    const label = document.createElement('label'), input = document.createElement('input'), text = document.createElement('span');
    Object.assign(input, { type: 'radio', name: 'model', value: key, checked: key === state.shown });
    text.textContent = title;
    label.append(input, text);
    at('models').append(label);
  }
  at('models').hidden = false;
}

async function offerExample({ id, alt, names }) {
  const button = document.createElement('button'), image = document.createElement('img');
  Object.assign(button, { type: 'button', title: alt });
  button.setAttribute('aria-pressed', 'false');
  button.dataset.id = id;
  image.alt = alt;
  button.append(image);
  at('examples').append(button);
  button.addEventListener('click', () => {
    if (!typed) { at('names').value = names.join(', '); desk.name(at('names').value); }
    choose(async () => ({ id, called: id, alt }));
  });
  try {
    image.src = URL.createObjectURL(await ask.picture(id));
  } catch (error) {
    trouble(error.message);
  }
}

// Show another picture. find: gives its id and what it is called.
async function choose(find) {
  const number = ++loading;
  quiet();
  say('Reading the picture …');
  at('stage').setAttribute('aria-busy', 'true');
  try {
    const found = await find();
    const image = await createImageBitmap(await ask.picture(found.id));
    if (number !== loading) return;
    desk.begin({ ...found, image, width: image.width, height: image.height });
    if (state.view !== 'similar') state.view = state.names.length ? 'names' : 'objects';
    say(`${image.width} × ${image.height} pixels`);
  } catch (error) {
    if (number === loading) { say(''); trouble(error.message); }
  } finally {
    if (number === loading) at('stage').removeAttribute('aria-busy');
  }
  update();
}

function upload(file) {
  const most = state.about?.limits.bytes ?? Infinity;
  const size = `${(file.size / 1e6).toFixed(1)} MB`;
  if (file.size > most) return trouble(`${file.name} has ${size}; at most ${most / 1e6} MB are taken.`);
  return choose(async () => ({ id: (await ask.upload(file)).id, called: file.name || 'picture', alt: '' }));
}

// Bring the page in line with what is wanted, and ask what is not yet known.
function update() {
  for (const [name, value] of [['view', state.view], ['tool', state.tool], ['model', state.shown]]) {
    const input = document.querySelector(`[name=${name}][value="${value}"]`);
    if (input) input.checked = true;
  }
  const there = Boolean(state.picture);
  at('empty').hidden = there;
  at('panels').hidden = !there;
  at('hint').textContent = HINTS[state.tool];
  at('new').disabled = !there || state.current >= state.things.length;
  at('undo').disabled = !desk.undoable();
  at('clear').disabled = !state.things.length;
  at('png').disabled = !there;
  at('json').disabled = !there || !Object.keys(desk.results()).length;
  for (const button of at('examples').children) button.setAttribute('aria-pressed', String(button.dataset.id === state.picture?.id));
  if (!state.about) return;
  const shown = desk.models();
  for (const [key, each] of panels) each.figure.hidden = !shown.some(model => model.key === key);
  for (const model of shown) { panels.get(model.key).render(); pursue(model); }
  tell(shown);
  showRows(at('rows'), at('nothing'), at('scale'), update);
}

// Ask a model what is wanted of it now, one question at a time, until it is answered.
async function pursue(model) {
  if (busy.has(model.key)) return;
  const asked = desk.wanted(model);
  if (!asked || desk.answered(model).fresh || refused.get(model.key) === asked.body) return;
  busy.add(model.key);
  say('Looking …');
  try {
    const answer = await ask.question(asked.kind, asked.body);
    desk.remember(model, asked.kind, asked.body, answer);
    refused.delete(model.key);
    quiet();
  } catch (error) {
    refused.set(model.key, asked.body);
    say('');
    trouble(error.message);
  }
  busy.delete(model.key);
  update();
}

// What is shown, in words.
function tell(shown) {
  const known = shown.map(model => [model, desk.answered(model)]).filter(([, { answer }]) => answer);
  if (known.length && known.every(([, { fresh }]) => fresh)) {
    say(known.map(([model, { answer }]) => `${model.title}: ${summary(answer)}`).join(' \u00b7 '));
  }
}

function summary({ things, regions, maps }) {
  const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;
  if (maps) return `similarity to ${Object.keys(maps).join(', ')}`;
  return regions ? `${count(regions.length, 'name')} found` : `${count(things.length, 'object')} outlined`;
}

const say = text => { at('status').textContent = text || '\u00a0'; };
const quiet = () => { at('trouble').hidden = true; };
function trouble(text) {
  at('trouble').querySelector('p').textContent = text;
  at('trouble').hidden = false;
}

function listen() {
  const file = at('file');
  file.addEventListener('change', () => { if (file.files[0]) upload(file.files[0]); file.value = ''; });
  at('trouble').querySelector('button').addEventListener('click', quiet);
  at('views').addEventListener('change', event => { state.view = event.target.value; update(); });
  at('tools').addEventListener('change', event => { state.tool = event.target.value; update(); });
  at('models').addEventListener('change', event => { state.shown = event.target.value; update(); });
  at('new').addEventListener('click', () => { desk.next(); say('The next point begins a new object.'); update(); });
  at('undo').addEventListener('click', () => { desk.undo(); update(); });
  at('clear').addEventListener('click', () => { desk.clear(); update(); });
  at('png').addEventListener('click', savePicture);
  at('json').addEventListener('click', saveAnswers);
  at('ask').addEventListener('submit', event => { event.preventDefault(); submit(); });
  at('names').addEventListener('input', () => { typed = at('names').value.trim() !== ''; });
  addEventListener('paste', event => { const pasted = [...event.clipboardData.files][0]; if (pasted) upload(pasted); });
  for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    addEventListener(kind, event => {
      event.preventDefault();
      document.body.classList.toggle('dropping', kind === 'dragenter' || kind === 'dragover');
      if (kind === 'drop' && event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
    });
  }
  matchMedia('(resolution: 1dppx)').addEventListener('change', update);
  const bar = at('scale').querySelector('canvas'), pen = bar.getContext('2d');
  for (let x = 0; x < bar.width; x++) { pen.fillStyle = `rgb(${heat(x / (bar.width - 1)).join(' ')})`; pen.fillRect(x, 0, 1, 1); }
}

function submit() {
  if (!state.about) return;
  const problem = desk.name(at('names').value) || (state.names.length ? '' : 'Type a name first, such as cat.');
  if (problem) return trouble(problem);
  if (!state.picture) return trouble('Choose a picture first.');
  if (state.view !== 'similar') state.view = 'names';
  refused.clear();
  quiet();
  update();
}

start();
