"""The shapes world: procedural scenes of textured shapes with exact masks, labels and captions.

A scene is a pure function of (seed, split, index), so the world needs no files and no download, every machine sees the
same pictures, and held-out scenes are scenes of another split. Eight shapes in six colours and four textures lie on
muted backgrounds and occlude one another. Masks are the visible part of each shape, exact to the pixel.

Axis letters: S side of the square picture in pixels.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
COLOURS = {
    "red": (214, 48, 49),
    "green": (46, 160, 67),
    "blue": (45, 98, 214),
    "yellow": (240, 208, 60),
    "purple": (142, 68, 173),
    "orange": (235, 126, 37),
}
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUND = "background"
LAYOUTS = ("single", "several", "mixed")

_MIXTURE = (0.06, 0.47, 0.47)  # of empty, single and several shapes in the layout `mixed`
_MIN_VISIBLE = 0.55  # a shape hidden more than this is left out of the scene
_MIN_PIXELS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """One object, lengths as fractions of the picture's side, angle in radians."""

    name: str
    colour: str
    texture: str
    x: float
    y: float
    radius: float
    angle: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A rendered scene.

    image: uint8 [S, S, 3]. masks: bool [N, S, S], the visible part of each shape, front shapes last.
    shapes: the N shapes, in the same order. caption: one English sentence that names them.
    """

    image: np.ndarray
    masks: np.ndarray
    shapes: tuple[Shape, ...]
    caption: str


def scene(*, seed: int, split: str, index: int, layout: str, size: int) -> Scene:
    """Render scene `index` of `split`; `layout` is one of LAYOUTS, `size` the side in pixels."""
    random = _generator(seed=seed, split=split, index=index, layout=layout)
    if layout == "mixed":
        layout = random.choice(["empty", "single", "several"], p=_MIXTURE)
    placed = _PLACES[layout](random)
    image, ids, areas = _render(placed, random, size)
    visible = [n for n in range(len(placed)) if (ids == n).sum() >= max(_MIN_PIXELS, _MIN_VISIBLE * areas[n])]
    masks = np.stack([ids == n for n in visible]) if visible else np.zeros((0, size, size), dtype=bool)
    shapes = tuple(placed[n] for n in visible)
    return Scene(image=image, masks=masks, shapes=shapes, caption=_caption(shapes, random))


def single(*, seed: int, split: str, index: int) -> Shape:
    """The one shape of scene `index` of layout `single`, which need not be rendered for that."""
    return _place_single(_generator(seed=seed, split=split, index=index, layout="single"))[0]


def _generator(*, seed: int, split: str, index: int, layout: str) -> np.random.Generator:
    key = hashlib.sha256(f"shapes/{seed}/{split}/{layout}/{index}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))


def views(*, seed: int, size: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Two pictures, uint8 [S, S, 3], of the same shapes in other colours and textures on other backgrounds.

    Several shapes stay in place; a single one is moved, resized and turned. Whether they stayed is told: odd seeds have
    several.
    """
    random, stay = np.random.default_rng(seed), seed % 2 == 1
    placed = _PLACES["several" if stay else "single"](random)
    first = _render(placed, random, size)[0]
    second = _render([_redraw(shape, random, stay=stay) for shape in placed], random, size)[0]
    return first, second, stay


def _redraw(shape: Shape, random: np.random.Generator, *, stay: bool) -> Shape:
    """The same kind of shape in other colours, and at another place unless it is to stay."""
    other = _draw(random, x=shape.x, y=shape.y, radius=shape.radius)
    if stay:
        return dataclasses.replace(other, name=shape.name, angle=shape.angle)
    return dataclasses.replace(_place_single(random)[0], name=shape.name)


def _render(placed: list[Shape], random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The picture, uint8 [S, S, 3], the number of each pixel's shape, int8 [S, S], -1 for none, and shapes' areas."""
    image = _background(random, size)
    ids = np.full((size, size), -1, dtype=np.int8)
    areas = []
    for number, shape in enumerate(placed):
        alpha, (rows, columns) = _coverage(shape, size)
        paint = _paint(shape, random, rows, columns, size)
        region = image[rows, columns]
        image[rows, columns] = region + (paint - region) * alpha[..., None]
        inside = alpha > 0.5
        areas.append(max(int(inside.sum()), 1))
        ids[rows, columns][inside] = number
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8), ids, areas


def _draw(random: np.random.Generator, *, x: float, y: float, radius: float) -> Shape:
    return Shape(
        name=SHAPES[int(random.integers(len(SHAPES)))],
        colour=tuple(COLOURS)[int(random.integers(len(COLOURS)))],
        texture=TEXTURES[int(random.integers(len(TEXTURES)))],
        x=x,
        y=y,
        radius=radius,
        angle=float(random.uniform(-0.35, 0.35)),
    )


def _place_single(random: np.random.Generator) -> list[Shape]:
    radius = float(random.uniform(0.22, 0.40))
    x, y = random.uniform(radius, 1 - radius, 2)
    return [_draw(random, x=float(x), y=float(y), radius=radius)]


def _place_several(random: np.random.Generator) -> list[Shape]:
    """Two to five shapes, drawn back to front, that may overlap by about a third."""
    placed: list[Shape] = []
    wanted = int(random.integers(2, 6))
    for _ in range(40):
        if len(placed) == wanted:
            break
        radius = float(random.uniform(0.13, 0.26))
        x, y = (float(v) for v in random.uniform(radius * 0.8, 1 - radius * 0.8, 2))
        if all(np.hypot(x - p.x, y - p.y) > 0.72 * (radius + p.radius) for p in placed):
            placed.append(_draw(random, x=x, y=y, radius=radius))
    return placed


_PLACES: dict[str, Callable[[np.random.Generator], list[Shape]]] = {
    "empty": lambda random: [],
    "single": _place_single,
    "several": _place_several,
}


def _coverage(shape: Shape, size: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Anti-aliased coverage in [0, 1] of the shape, on the part of the picture that it can touch."""
    reach = shape.radius * 1.15
    rows, columns = (
        slice(max(int((c - reach) * size), 0), min(int((c + reach) * size) + 2, size)) for c in (shape.y, shape.x)
    )
    v = ((np.arange(rows.start, rows.stop) + 0.5) / size - shape.y)[:, None] / shape.radius
    u = ((np.arange(columns.start, columns.stop) + 0.5) / size - shape.x)[None, :] / shape.radius
    cos, sin = np.cos(shape.angle), np.sin(shape.angle)
    distance = _DISTANCES[shape.name](cos * u + sin * v, cos * v - sin * u)
    coverage: np.ndarray = np.clip(0.5 - distance * shape.radius * size, 0, 1)
    return coverage, (rows, columns)


def _polygon(u: np.ndarray, v: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance to a polygon, negative inside."""
    squared = np.full(np.broadcast_shapes(u.shape, v.shape), np.inf)
    sign = np.ones_like(squared)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        ex, ey, px, py = bx - ax, by - ay, u - ax, v - ay
        t = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        squared = np.minimum(squared, (px - ex * t) ** 2 + (py - ey * t) ** 2)
        crosses = ((v >= ay) & (v < by) & (ex * py > ey * px)) | ((v < ay) & (v >= by) & (ex * py < ey * px))
        sign = np.where(crosses, -sign, sign)
    distance: np.ndarray = sign * np.sqrt(squared)
    return distance


def _regular(count: int, radii: tuple[float, ...]) -> np.ndarray:
    angle = 2 * np.pi * np.arange(count) / count
    radius = np.resize(np.array(radii), count)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


_TRIANGLE = _regular(3, (1.05,)) + np.array([0, 0.2])
_ARM = 0.30
_SIDE = [(_ARM, -0.95), (_ARM, -_ARM), (0.95, -_ARM), (0.95, _ARM), (_ARM, _ARM), (_ARM, 0.95)]
_CROSS = np.array([*_SIDE, *((-x, -y) for x, y in _SIDE)])
_ANGLES = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_HEART = np.stack(
    [
        np.sin(_ANGLES) ** 3,
        -(13 * np.cos(_ANGLES) - 5 * np.cos(2 * _ANGLES) - 2 * np.cos(3 * _ANGLES) - np.cos(4 * _ANGLES)) / 16 - 0.1,
    ],
    axis=1,
)

_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.92,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) - 0.78,
    "triangle": lambda u, v: _polygon(u, v, _TRIANGLE),
    "star": lambda u, v: _polygon(u, v, _regular(10, (1.05, 0.45))),
    "cross": lambda u, v: _polygon(u, v, _CROSS),
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.70) - 0.26,
    "heart": lambda u, v: _polygon(u, v, _HEART),
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.95, 0.72 - np.hypot(u - 0.48, v)),
}


def _background(random: np.random.Generator, size: int) -> np.ndarray:
    """A muted gradient between two greyish colours with soft blotches: float [S, S, 3] in 0..255."""
    base = random.uniform(70, 190) + random.uniform(-14, 14, (2, 3))
    angle = random.uniform(0, 2 * np.pi)
    line = (np.arange(size) + 0.5) / size
    ramp = np.clip(0.5 + np.cos(angle) * (line[None, :] - 0.5) + np.sin(angle) * (line[:, None] - 0.5), 0, 1)
    blotches = _smooth(size) @ random.normal(0, 16, (6, 6)) @ _smooth(size).T
    light: np.ndarray = base[0] + (base[1] - base[0]) * ramp[..., None] + blotches[..., None]
    return light


@functools.cache
def _smooth(size: int) -> np.ndarray:
    """Linear interpolation from 6 knots to `size` pixels, [S, 6]."""
    place = np.linspace(0, 5, size)
    weights: np.ndarray = np.maximum(0, 1 - abs(place[:, None] - np.arange(6)[None, :]))
    return weights


def _paint(shape: Shape, random: np.random.Generator, rows: slice, columns: slice, size: int) -> np.ndarray:
    """The shape's colour and texture on its region, float [h, w, 3] in 0..255."""
    colour = np.array(COLOURS[shape.colour], dtype=float) + random.uniform(-14, 14, 3)
    phase, turn = random.uniform(0, 1), random.uniform(0, np.pi)
    y = ((np.arange(rows.start, rows.stop) + 0.5) / size)[:, None]
    x = ((np.arange(columns.start, columns.stop) + 0.5) / size)[None, :]
    across = np.cos(turn) * x + np.sin(turn) * y
    along = np.cos(turn) * y - np.sin(turn) * x
    wave = 2 * np.pi / 0.11
    if shape.texture == "plain":
        light = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    elif shape.texture == "striped":
        light = np.sign(np.sin(wave * across + 6.28 * phase))
    elif shape.texture == "dotted":
        light = np.where(np.sin(wave * across) * np.sin(wave * along) > 0.4, 1.0, -0.3)
    else:
        light = np.sign(np.sin(wave * across) * np.sin(wave * along))
    return colour + 34 * light[..., None]


def _caption(shapes: tuple[Shape, ...], random: np.random.Generator) -> str:
    """ "a striped red star and a blue circle": colours and textures are named now and then."""
    if not shapes:
        return f"an empty {BACKGROUND}"
    words = []
    for shape in shapes:
        adjectives = [shape.texture] * bool(random.random() < 0.3) + [shape.colour] * bool(random.random() < 0.7)
        phrase = " ".join([*adjectives, shape.name])
        words.append(f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}")
    order = random.permutation(len(words))
    words = [words[i] for i in order]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
