// Masks as run lengths, in COCO's compressed form: what they hold, and where their edges are.

// A decoded mask: bits, a byte for each pixel row by row; the number of pixels; the pixel nearest to its middle; its
// outline as a path in pixels.
export function decode({ size: [height, width], counts }) {
  const bits = new Uint8Array(height * width);
  let area = 0, down = 0, right = 0, at = 0, inside = false;
  for (const run of lengths(counts)) {
    if (inside) {
      for (let place = at; place < at + run; place++) { // down the columns
        const x = Math.floor(place / height), y = place - x * height;
        bits[y * width + x] = 1;
        area++; right += x; down += y;
      }
    }
    at += run;
    inside = !inside;
  }
  const mask = { bits, width, height, area };
  mask.middle = area ? nearest(mask, right / area, down / area) : null;
  mask.outline = trace(mask);
  return mask;
}

// Groups of five bits, lowest first, each as a character from 48 on; the sixth bit says that more follow. From the
// third run on, the difference to the last but one is written.
function lengths(text) {
  const runs = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, group;
    do {
      group = text.charCodeAt(at++) - 48;
      value += (group & 31) * 2 ** shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) value -= 2 ** shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

// The pixel of a mask that is nearest to a place, looked for on a coarse grid.
function nearest({ bits, width, height }, x, y) {
  const step = Math.max(1, Math.floor(Math.max(width, height) / 200));
  let best = null, least = Infinity;
  for (let row = 0; row < height; row += step) {
    for (let column = 0; column < width; column += step) {
      const far = (column - x) ** 2 + (row - y) ** 2;
      if (far < least && bits[row * width + column]) { least = far; best = [column + 0.5, row + 0.5]; }
    }
  }
  return best;
}

// For the corners of four neighbouring pixels that are inside (1 upper left, 2 upper right, 4 lower right, 8 lower left):
// from the middle of which of their common edges to which the outline runs (marching squares).
const TOP = [0, -0.5], RIGHT = [0.5, 0], BOTTOM = [0, 0.5], LEFT = [-0.5, 0];
const RUNS = [
  [], [LEFT, TOP], [TOP, RIGHT], [LEFT, RIGHT], [RIGHT, BOTTOM], [LEFT, TOP, RIGHT, BOTTOM], [TOP, BOTTOM], [LEFT, BOTTOM],
  [BOTTOM, LEFT], [TOP, BOTTOM], [TOP, RIGHT, BOTTOM, LEFT], [RIGHT, BOTTOM], [LEFT, RIGHT], [TOP, RIGHT], [LEFT, TOP], [],
];

// The outline of a mask; where it meets the picture's border there is none.
function trace({ bits, width, height }) {
  const path = new Path2D();
  for (let y = 1; y < height; y++) {
    const above = (y - 1) * width, below = y * width;
    for (let x = 1; x < width; x++) {
      const corners = bits[above + x - 1] | bits[above + x] << 1 | bits[below + x] << 2 | bits[below + x - 1] << 3;
      if (corners === 0 || corners === 15) continue;
      const run = RUNS[corners];
      for (let at = 0; at < run.length; at += 2) {
        path.moveTo(x + run[at][0], y + run[at][1]);
        path.lineTo(x + run[at + 1][0], y + run[at + 1][1]);
      }
    }
  }
  return path;
}
