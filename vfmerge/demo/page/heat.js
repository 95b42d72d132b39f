// Numbers as colours: viridis, as of matplotlib.

const HEAT = ['#440154', '#482878', '#3e4989', '#31688e', '#26828e', '#1f9e89', '#35b779', '#6ece58', '#b5de2b', '#fde725'];

export const GRADIENT = `linear-gradient(90deg, ${HEAT.join(', ')})`;

export const rgb = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));

// share: in 0..1. Red, green and blue.
export function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1), below = Math.min(Math.floor(at), HEAT.length - 2);
  const [from, to] = [rgb(HEAT[below]), rgb(HEAT[below + 1])];
  return from.map((value, place) => Math.round(value + (to[place] - value) * (at - below)));
}
