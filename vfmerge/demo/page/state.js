// What a person wants to know, and what has been answered so far.

export const state = {
  about: null, // of the server: models, examples, limits, parents that are missing
  picture: null, // { id, called, alt, width, height, image }
  things: [], // { points: [{ x, y, inside }], box: null | { x0, y0, x1, y1 } }, in pixels
  current: 0, // the thing that the next point belongs to; beyond the last one, a new one
  names: [],
  heated: '', // the name whose similarity is shown
  tasks: [], // that have features of cells
  task: '', // the one whose features are shown
  place: null, // { x, y } in pixels, with which all other places are compared
  alike: false, // whether what is like the place is shown, or all features in colours
  fine: true, // whether cells are small, or as the model has them by itself
  view: 'objects', // objects, names, similar or features
  shown: 'merged', // a model's key, or all
  tool: 'inside', // inside, outside or box
};

const KINDS = { objects: 'outline', names: 'find', similar: 'similar', features: 'features' };
const answers = new Map(); // the newest answer by model and kind: { question, answer }
const refused = new Map(); // the question that a model last refused
const asking = new Map(); // since when a model is at work, in ms
const past = []; // things of before, for undo

export function models() {
  return state.about.models.filter(model => state.shown === 'all' || model.key === state.shown);
}

// Whether a model can answer what the view asks.
export function able(model) {
  if (state.view === 'features') return model.features.includes(state.task);
  return model.does[state.view === 'objects' ? 'outline' : 'find'];
}

// What the view asks of a model, as { kind, body }, or nothing if there is nothing to ask.
export function wanted(model) {
  const kind = state.view === 'features' && state.alike ? 'alike' : KINDS[state.view];
  if (!state.picture || !able(model)) return null;
  const question = { picture: state.picture.id, model: model.key };
  if (kind === 'outline') {
    if (!state.things.length) return null;
    Object.assign(question, { things: state.things, names: model.does.name ? state.names : [] });
  } else if (state.view === 'features') {
    Object.assign(question, { task: state.task, fine: state.fine, ...(state.alike ? { place: state.place } : {}) });
  } else {
    const names = kind === 'find' ? state.names : state.names.filter(name => name === state.heated);
    if (!names.length) return null;
    Object.assign(question, { names });
  }
  return { kind, body: JSON.stringify(question) };
}

export function remember(model, kind, question, answer) {
  answers.set(`${kind} ${model.key}`, { question, answer });
  refused.delete(model.key);
}

export const refuse = (model, question) => refused.set(model.key, question);
export const again = () => refused.clear(); // what was refused may be asked once more

export const begins = model => asking.set(model.key, performance.now());
export const ends = model => asking.delete(model.key);
export const busy = model => asking.has(model.key);
export const anyBusy = () => asking.size > 0;

// The newest answer to what the view asks of a model; whether it is to just this question, which else is pending or was
// refused; and for how many seconds the model is at work. An older answer about the same picture goes on being shown
// until the new one is there.
export function answered(model) {
  const asked = wanted(model);
  const last = asked && answers.get(`${asked.kind} ${model.key}`);
  const about = last && JSON.parse(last.question).picture === state.picture.id;
  const fresh = !asked || Boolean(about && last.question === asked.body);
  const failed = !fresh && refused.get(model.key) === asked.body;
  const seconds = asking.has(model.key) ? Math.floor((performance.now() - asking.get(model.key)) / 1000) : 0;
  return { answer: about ? last.answer : null, fresh, failed, pending: !fresh && !failed, seconds };
}

// All newest answers about this picture, by model and kind, each with what was asked, for a file.
export function results() {
  const found = {};
  for (const [key, { question, answer }] of answers) {
    const asked = JSON.parse(question);
    if (asked.picture !== state.picture?.id) continue;
    const kind = key.slice(0, key.indexOf(' '));
    const { picture, model, ...rest } = asked;
    (found[model] ??= {})[kind] = { asked: rest, ...answer };
  }
  return found;
}

export function begin(picture) {
  Object.assign(state, { picture, things: [], current: 0, place: null, alike: false });
  past.length = 0;
}

function change(make) {
  past.push(JSON.stringify([state.things, state.current]));
  make();
  state.view = 'objects';
}

// Returns why a point is not taken, if it is not.
export function addPoint(x, y, inside) {
  const thing = state.things[state.current];
  const { limits, models } = state.about;
  if (!models.some(model => model.does.outline)) return 'No model here outlines what is pointed at.';
  if (!thing && !inside) return 'Begin with a point inside or a box; points outside correct it.';
  if (!thing && state.things.length >= limits.things) return `At most ${limits.things} objects; remove one first.`;
  if (thing && thing.points.length >= limits.points) return `At most ${limits.points} points for an object.`;
  change(() => {
    const points = [...(thing?.points ?? []), { x, y, inside }];
    state.things = [...state.things];
    state.things[state.current] = { points, box: thing?.box ?? null };
  });
  return '';
}

// A box is around a new object.
export function addBox(box) {
  if (state.things.length >= state.about.limits.things) return `At most ${state.about.limits.things} objects; remove one first.`;
  change(() => {
    state.current = state.things.length;
    state.things = [...state.things, { points: [], box }];
  });
  return '';
}

// The place with which all others are compared; none shows the features themselves.
export function setPlace(place) {
  Object.assign(state, { place, alike: Boolean(place) });
}

export function next() {
  state.current = state.things.length;
}

export function drop(number) {
  change(() => {
    state.things = state.things.filter((_, place) => place !== number);
    state.current = state.things.length;
  });
}

export function clear() {
  change(() => Object.assign(state, { things: [], current: 0 }));
}

export function undo() {
  if (past.length) [state.things, state.current] = JSON.parse(past.pop());
}

export const undoable = () => past.length > 0;

// Takes a text of names; returns why not, if it cannot be.
export function name(text) {
  const names = [...new Set(text.split(',').map(each => each.trim()).filter(Boolean))];
  const { limits } = state.about;
  const long = names.find(each => [...each].length > limits.letters);
  if (names.length > limits.names) return `At most ${limits.names} names at once; there are ${names.length}.`;
  if (long) return `“${long.slice(0, 20)}…” is too long for a name.`;
  state.names = names;
  if (!names.includes(state.heated)) state.heated = names[0] ?? '';
  return '';
}
