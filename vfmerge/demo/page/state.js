// What a person wants to know, and what has been answered so far.

export const state = {
  about: null, // of the server: models, examples, limits
  picture: null, // { id, called, alt, width, height, image }
  things: [], // { points: [{ x, y, inside }], box: null | { x0, y0, x1, y1 } }, in pixels
  current: 0, // the thing that the next point belongs to; beyond the last one, a new one
  names: [],
  heated: '', // the name whose similarity is shown
  view: 'objects', // objects, names or similar
  shown: 'merged', // a model's key, or all
  tool: 'inside', // inside, outside or box
};

const KINDS = { objects: 'outline', names: 'find', similar: 'similar' };
const answers = new Map(); // the newest answer by model and kind: { question, answer }
const past = []; // things of before, for undo

export function models() {
  return state.about.models.filter(model => state.shown === 'all' || model.key === state.shown);
}

// What the view asks of a model, as { kind, body }, or nothing if there is nothing to ask.
export function wanted(model) {
  const kind = KINDS[state.view];
  if (!state.picture || !model.does[kind === 'outline' ? 'outline' : 'find']) return null;
  const question = { picture: state.picture.id, model: model.key };
  if (kind === 'outline') {
    if (!state.things.length) return null;
    Object.assign(question, { things: state.things, names: model.does.name ? state.names : [] });
  } else {
    const names = kind === 'find' ? state.names : state.names.filter(name => name === state.heated);
    if (!names.length) return null;
    Object.assign(question, { names });
  }
  return { kind, body: JSON.stringify(question) };
}

export function remember(model, kind, question, answer) {
  answers.set(`${kind} ${model.key}`, { question, answer });
}

// The newest answer to what the view asks of a model, and whether it is to just this question. An older one about the
// same picture goes on being shown until the new one is there.
export function answered(model) {
  const asked = wanted(model);
  const last = asked && answers.get(`${asked.kind} ${model.key}`);
  if (!last || JSON.parse(last.question).picture !== state.picture.id) return { answer: null, fresh: !asked };
  return { answer: last.answer, fresh: last.question === asked.body };
}

// All newest answers about this picture, by model and kind, each with what was asked, for a file.
export function results() {
  const found = {};
  for (const [key, { question, answer }] of answers) {
    const asked = JSON.parse(question);
    if (asked.picture !== state.picture?.id) continue;
    const kind = key.slice(0, key.indexOf(' '));
    (found[asked.model] ??= {})[kind] = { asked: { things: asked.things, names: asked.names }, ...answer };
  }
  return found;
}

export function begin(picture) {
  Object.assign(state, { picture, things: [], current: 0 });
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
  const { limits } = state.about;
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
