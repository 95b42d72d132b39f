// One model's view of the picture: a canvas that is clicked, dragged on, and reached by keyboard.

import { draw } from './draw.js';
import { able, addBox, addPoint, answered, busy, next, setPlace, state, undo } from './state.js';
import { place } from './words.js';

const STEP = 1 / 40; // of the longer side, for an arrow key
const TITLE = 170, NARROW = 230; // CSS pixels that a caption wants, and below which it says less
const GAP = 12, LINE = 28; // CSS pixels between pictures, and of a caption
const LEAST = 4; // CSS pixels that a box must have
const LACKS = { objects: 'no outlines', names: 'no names', similar: 'no names', features: 'no features' };

// told: a function for what a person should hear; changed: one for after every change.
export function panel(model, { told, changed }) {
  const figure = document.createElement('figure');
  figure.className = 'panel';
  figure.innerHTML = '<figcaption><b></b><span></span></figcaption><div class="look" tabindex="0" role="application"><canvas></canvas></div>';
  const [title, note] = figure.querySelectorAll('b, span');
  const caption = figure.querySelector('figcaption'), look = figure.querySelector('.look'), canvas = figure.querySelector('canvas');
  title.textContent = model.title;
  look.setAttribute('aria-label', model.title);
  look.setAttribute('aria-roledescription', 'picture to point at');
  look.setAttribute('aria-describedby', 'hint');
  let drag = null, corner = null, cursor = null, scale = 1;

  const narrow = () => figure.clientWidth < NARROW;
  const unit = () => window.devicePixelRatio || 1;
  const fail = text => { if (text) told(text); else changed(); };

  function render() {
    const { picture } = state;
    if (!picture || !figure.clientWidth) return;
    const fit = Math.min(figure.clientWidth / picture.width, (figure.clientHeight - caption.offsetHeight) / picture.height);
    scale = fit * unit();
    const [width, height] = [Math.max(Math.round(picture.width * scale), 1), Math.max(Math.round(picture.height * scale), 1)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    Object.assign(canvas.style, { width: `${width / unit()}px`, height: `${height / unit()}px` });
    caption.style.width = `${Math.max(width / unit(), Math.min(figure.clientWidth, TITLE))}px`;
    const { answer, pending, failed, seconds } = answered(model);
    const box = drag ?? (corner && cursor ? { x0: corner.x, y0: corner.y, x1: cursor.x, y1: cursor.y } : null);
    draw(canvas.getContext('2d'), {
      ...state, heatedName: state.heated, answer, box, cursor: document.activeElement === look ? cursor : null, scale, unit: unit(),
    });
    look.setAttribute('aria-label', `${model.title}: ${picture.alt || picture.called}. ${spoken(answer)}`);
    title.textContent = narrow() ? model.title.replace(/ model$/, '') : model.title;
    look.setAttribute('aria-busy', String(pending));
    look.classList.toggle('boxing', boxing());
    note.textContent = !able(model) ? LACKS[state.view] : failed ? 'no answer' : busy(model) && seconds ? `${seconds} s …` : remark(answer);
    note.title = note.textContent;
  }

  function remark(answer) {
    if (!answer) return '';
    if (state.view === 'names' && !model.does.outline) return 'cells alone';
    if (answer.colours) return `${answer.height} × ${answer.width} cells`;
    const values = answer.values ?? answer.maps?.[state.heated];
    if (values) {
      const [least, most] = [Math.min(...values), Math.max(...values)].map(cosine);
      return narrow() ? `${least}…${most}` : `cosine ${least} to ${most}`;
    }
    return answer.seconds < 1 ? `${Math.round(1000 * answer.seconds)} ms` : `${answer.seconds.toFixed(1)} s`;
  }

  function spoken(answer) {
    if (!answer) return '';
    if (state.view === 'objects') {
      return answer.things.map((each, number) => `Object ${number + 1}: ${each.name ?? 'outlined'}`).join(', ');
    }
    if (answer.colours) return 'Features of its cells, in colours';
    if (answer.values) return `Similarity to the cell at ${place()}`;
    if (state.view === 'names') return `Found: ${answer.regions.map(each => each.name).join(', ') || 'nothing'}`;
    return `Similarity to ${state.heated}`;
  }

  function placeOf(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const within = (value, most) => Math.min(Math.max(value, 0), most - 1e-3);
    const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height];
    const out = x < 0 || y < 0 || x > 1 || y > 1;
    return { out, x: tidy(within(x * state.picture.width, state.picture.width)), y: tidy(within(y * state.picture.height, state.picture.height)) };
  }

  look.addEventListener('contextmenu', event => event.preventDefault());
  look.addEventListener('pointerdown', event => {
    if (!state.picture || !event.isPrimary || event.button > 2 || event.button === 1) return;
    cursor = corner = null;
    const place = placeOf(event);
    if (place.out) return;
    if (boxing() && event.button === 0) {
      look.setPointerCapture(event.pointerId);
      drag = { x0: place.x, y0: place.y, x1: place.x, y1: place.y };
    } else if (event.pointerType === 'mouse') {
      point(place, event.button === 2 || event.shiftKey);
    }
  });
  look.addEventListener('click', event => { // of a finger or pen, which may have meant to scroll
    if (!state.picture || event.pointerType === 'mouse' || boxing() || !event.pointerType) return;
    const place = placeOf(event);
    if (!place.out) point(place, false);
  });
  look.addEventListener('pointermove', event => {
    if (!drag) return;
    const { x, y } = placeOf(event);
    Object.assign(drag, { x1: x, y1: y });
    render();
  });
  look.addEventListener('pointerup', () => {
    if (!drag) return;
    const made = upright(drag);
    drag = null;
    finish(made);
  });
  look.addEventListener('pointercancel', () => { drag = null; render(); });

  function point({ x, y }, outside) {
    if (state.view === 'features') { setPlace({ x, y }); changed(); return; }
    fail(addPoint(x, y, !(outside || state.tool === 'outside')));
  }

  function finish(box) {
    const least = LEAST * unit() / scale;
    if (box.x1 - box.x0 < least || box.y1 - box.y0 < least) {
      told('Drag from one corner of the box to the other.');
      render();
    } else fail(addBox(box));
  }

  look.addEventListener('keydown', event => {
    if (!state.picture || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!act(event.key, event.shiftKey)) return;
    event.preventDefault();
    render();
  });
  look.addEventListener('focus', () => { if (look.matches(':focus-visible')) cursor ??= middle(); render(); });
  look.addEventListener('blur', render);
  const middle = () => ({ x: tidy(state.picture.width / 2), y: tidy(state.picture.height / 2) });

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function act(key, shift) {
    const { width, height } = state.picture;
    if (key in MOVES) {
      const step = shift ? 1 : Math.max(width, height) * STEP;
      const [right, down] = MOVES[key];
      cursor ??= middle();
      cursor = { x: tidy(Math.min(Math.max(cursor.x + right * step, 0), width - 1)), y: tidy(Math.min(Math.max(cursor.y + down * step, 0), height - 1)) };
      told(`Cursor at ${Math.round(cursor.x)}, ${Math.round(cursor.y)}`, true);
    } else if (key === 'Enter' || key === ' ') {
      cursor ??= middle();
      if (!boxing() || shift) point(cursor, shift);
      else if (!corner) { corner = cursor; told('First corner placed; move to the other and press Enter.', true); }
      else { const made = upright({ x0: corner.x, y0: corner.y, x1: cursor.x, y1: cursor.y }); corner = null; finish(made); }
    } else if (state.view === 'features' && ['Escape', 'Backspace', 'Delete'].includes(key)) { setPlace(null); changed(); }
    else if (key === 'Escape') { drag = corner = null; }
    else if (key === 'n' || key === 'N') { next(); changed(); }
    else if (key === 'Backspace' || key === 'Delete') { undo(); changed(); }
    else return false;
    return true;
  }

  new ResizeObserver(render).observe(figure);
  return { model, figure, render, focus: () => look.focus({ preventScroll: true }) };
}

const boxing = () => state.tool === 'box' && state.view !== 'features';
// The columns of a grid, as CSS has them, in which so many pictures are largest within a width and height.
export function columns({ clientWidth, clientHeight }, count, picture) {
  const size = across => {
    const down = Math.ceil(count / across);
    return Math.min((clientWidth / across - GAP) / picture.width, (clientHeight / down - GAP - LINE) / picture.height);
  };
  const fit = across => across === 1 || clientWidth / across >= TITLE - GAP;
  const best = Array.from({ length: count }, (_, before) => before + 1).filter(fit)
    .reduce((one, other) => (size(other) > size(one) ? other : one));
  return `repeat(${best}, minmax(0, ${Math.max(Math.ceil(size(best) * picture.width), TITLE + 2 * GAP)}px))`;
}

const cosine = value => value.toFixed(2).replace('-', '\u2212');
const tidy = value => Math.round(value * 10) / 10;
const upright = ({ x0, y0, x1, y1 }) => ({ x0: Math.min(x0, x1), y0: Math.min(y0, y1), x1: Math.max(x0, x1), y1: Math.max(y0, y1) });
