// The page: controls, pictures, and the questions that follow from them.

import * as ask from './ask.js';
import { heat } from './heat.js';
import { columns, panel } from './panel.js';
import { showRows } from './rows.js';
import { saveAnswers, savePicture } from './save.js';
import * as desk from './state.js';
import * as words from './words.js';

const { state } = desk;
const { quiet, say, trouble } = words;
const at = id => document.getElementById(id);
const panels = new Map();
let typed = false; // whether the names are a person's own
let loading = 0; // pictures that were wanted, to let the last one win

async function start() {
  listen();
  update();
  try {
    state.about = await ask.about();
  } catch (error) {
    return trouble(error.message, () => location.reload());
  }
  const { about } = state;
  document.title = `${about.name} · vfmerge demo`;
  at('name').textContent = about.name;
  at('about').textContent = words.introduce(about);
  for (const model of about.models) {
    const made = panel(model, { told: (text, quiet) => (quiet ? say(text) : trouble(text)), changed: update });
    panels.set(model.key, made);
    at('panels').append(made.figure);
  }
  offerModels(about.models);
  offerViews(about.models);
  update();
  await Promise.all(about.examples.map(offerExample));
}

// The views that one of the models has answers for.
function offerViews(models) {
  const can = what => models.some(model => model.does[what]);
  const views = { objects: can('outline'), names: can('find'), similar: can('find'), features: can('features') };
  const there = Object.keys(views).filter(view => views[view]);
  for (const view in views) document.querySelector(`[name=view][value=${view}]`).parentElement.hidden = !views[view];
  at('views').hidden = there.length < 2;
  at('naming').hidden = !can('find') && !can('name');
  at('pointing').hidden = !can('outline') && !can('features');
  if (!can('find')) at('names-hint').textContent = 'Names separated by commas: each object gets the likeliest.';
  [state.view] = there;
  state.tasks = [...new Set(models.flatMap(model => model.features))];
  [state.task = ''] = state.tasks;
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
    trouble(error.message, () => location.reload());
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
    arrange();
    say(`${image.width} × ${image.height} pixels`);
  } catch (error) {
    if (number === loading) { say(''); trouble(error.message, error.again && (() => choose(find))); }
  } finally {
    if (number === loading) at('stage').removeAttribute('aria-busy');
  }
  update();
}

// The view of a new picture: the names that were typed, where they can be found.
function arrange() {
  if (state.view !== 'names' && state.view !== 'objects') return;
  const can = what => state.about.models.some(model => model.does[what]);
  state.view = (state.names.length || !can('outline')) && can('find') ? 'names' : 'objects';
}

function upload(file) {
  const most = state.about?.limits.bytes ?? Infinity;
  const size = `${(file.size / 1e6).toFixed(1)} MB`;
  if (file.size > most) return trouble(`${file.name} has ${size}; at most ${most / 1e6} MB are taken.`);
  return choose(async () => ({ id: (await ask.upload(file)).id, called: file.name || 'picture', alt: '' }));
}

// Bring the page in line with what is wanted, and ask what is not yet known.
function update() {
  for (const [name, value] of [['view', state.view], ['tool', state.tool], ['model', state.shown], ['grid', state.fine ? 'fine' : 'native']]) {
    const input = document.querySelector(`[name=${name}][value="${value}"]`);
    if (input) input.checked = true;
  }
  const there = Boolean(state.picture);
  at('empty').hidden = there;
  at('panels').hidden = !there;
  words.instruct();
  at('new').disabled = !there || state.current >= state.things.length;
  at('undo').disabled = !desk.undoable();
  at('clear').disabled = !state.things.length;
  at('png').disabled = !there;
  at('json').disabled = !there || !Object.keys(desk.results()).length;
  for (const button of at('examples').children) button.setAttribute('aria-pressed', String(button.dataset.id === state.picture?.id));
  if (!state.about) return;
  const shown = desk.models();
  for (const [key, each] of panels) each.figure.hidden = !shown.some(model => model.key === key);
  spread();
  for (const model of shown) { panels.get(model.key).render(); pursue(model); }
  words.report(shown);
  showRows(at('rows'), at('nothing'), at('scale'), update);
}

// As large as the pictures can be beside each other.
function spread() {
  if (state.picture) at('panels').style.gridTemplateColumns = columns(at('panels'), desk.models().length, state.picture);
}

// Ask a model what is wanted of it now, one question at a time, until it is answered.
async function pursue(model) {
  if (desk.busy(model) || !desk.answered(model).pending) return;
  const asked = desk.wanted(model);
  desk.begins(model);
  say('Looking …');
  try {
    desk.remember(model, asked.kind, asked.body, await ask.question(asked.kind, asked.body));
    if (!desk.models().some(other => desk.answered(other).failed)) quiet();
  } catch (error) {
    desk.refuse(model, asked.body);
    say('');
    trouble(error.message, error.again && again);
  }
  desk.ends(model);
  update();
}

function again() {
  desk.again();
  update();
}

function listen() {
  words.listen();
  const file = at('file');
  file.addEventListener('change', () => { if (file.files[0]) upload(file.files[0]); file.value = ''; });
  at('views').addEventListener('change', event => { state.view = event.target.value; update(); });
  at('tools').addEventListener('change', event => { state.tool = event.target.value; update(); });
  at('grids').addEventListener('change', event => { state.fine = event.target.value === 'fine'; update(); });
  at('models').addEventListener('change', event => { state.shown = event.target.value; update(); });
  at('new').addEventListener('click', () => { desk.next(); say('The next point begins a new object.'); update(); });
  at('undo').addEventListener('click', () => { desk.undo(); update(); });
  at('clear').addEventListener('click', () => { desk.clear(); update(); });
  at('png').addEventListener('click', savePicture);
  at('json').addEventListener('click', saveAnswers);
  at('ask').addEventListener('submit', event => { event.preventDefault(); submit(); });
  at('names').addEventListener('input', () => { typed = at('names').value.trim() !== ''; });
  at('names').addEventListener('change', () => { if (state.about && !desk.name(at('names').value)) update(); });
  addEventListener('paste', event => { const pasted = [...event.clipboardData.files][0]; if (pasted) upload(pasted); });
  for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    addEventListener(kind, event => {
      event.preventDefault();
      document.body.classList.toggle('dropping', kind === 'dragenter' || kind === 'dragover');
      if (kind === 'drop' && event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
    });
  }
  new ResizeObserver(spread).observe(at('panels'));
  setInterval(() => { if (desk.anyBusy()) for (const each of panels.values()) each.render(); }, 1000);
  matchMedia('(resolution: 1dppx)').addEventListener('change', update);
  const bar = at('scale').querySelector('canvas'), pen = bar.getContext('2d');
  for (let x = 0; x < bar.width; x++) { pen.fillStyle = `rgb(${heat(x / (bar.width - 1)).join(' ')})`; pen.fillRect(x, 0, 1, 1); }
}

function submit() {
  if (!state.about) return;
  const problem = desk.name(at('names').value) || (state.names.length ? '' : 'Type a name first, such as cat.');
  if (problem) return trouble(problem);
  if (!state.picture) return trouble('Choose a picture first.');
  if (!state.about.models.some(model => model.does.find)) state.view = 'objects';
  else if (state.view !== 'similar') state.view = 'names';
  quiet();
  again();
}

start();
