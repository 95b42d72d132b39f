"""A picture with what was found on it, and below it a legend: colours, names, how sure.

Axis letters: H x W pixels of the picture.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vfmerge.benchmarks.two_heads import components
from vfmerge.predict.answer import Answer
from vfmerge.predict.question import Box, Point, Question, written
from vfmerge.views.panel import CLASSES

Entry = tuple[int, str, str]
"""Of a legend: the number of a region, below 0 for none; what is written on it; what the legend says."""

_LEAST, _MOST = 640, 1600  # pixels of an overlay's longer side
_OPACITY = 0.65
_PAPER, _INK, _EDGE = "#ffffff", "#1a1a1a", "#ffffff"
_SMALL = 0.004  # share of the picture below which a region bears no name
_LONG = 40  # letters of a name in the legend
_COLOURS = 255  # so many are told apart


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a name or mask, red, green and blue in 0..255; the 256th begins again."""
    red, green, blue = _colours()[number % _COLOURS].tolist()
    return red, green, blue


@functools.cache
def _colours() -> np.ndarray:
    """Colours of the gallery, then others, each of those that are left the farthest from all before: int64 [255, 3]."""
    hues, lights, dullness = np.arange(48) / 48, (0.25, 0.4, 0.55, 0.7, 0.82), (0.85, 0.45)
    left = [colorsys.hls_to_rgb(hue, light, full) for light in lights for full in dullness for hue in hues]
    candidates = np.array(left) * 255  # [480, 3]
    chosen = [[int(text[place : place + 2], 16) for place in (1, 3, 5)] for text in CLASSES]
    nearest = np.min([_apart(candidates, np.array(each)) for each in chosen], axis=0)
    while len(chosen) < _COLOURS:
        farthest = candidates[nearest.argmax()]
        chosen.append(farthest.round().astype(int).tolist())
        nearest = np.minimum(nearest, _apart(candidates, farthest))
    return np.array(chosen)


def _apart(colours: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How different colours [N, 3] look from another, about: the eye sees green best and blue least."""
    return np.asarray(np.sqrt(((colours - other) ** 2 * (3, 4, 2)).sum(axis=-1)))


def legend(answer: Answer, question: Question) -> list[Entry]:
    """What an answer's regions are: prompts one by one, names with how many masks and the best score, or a count."""
    if question.prompted:
        return [_of_prompt(answer, question, number) for number in range(len(answer.masks))]
    if answer.classes is None:
        return [(-1, "", _count(len(answer.masks), "mask"))]
    entries = []
    for number, name in enumerate(question.classes):
        scores = answer.scores[answer.classes == number]
        if len(scores):
            times = f" x {len(scores)}" if len(scores) > 1 else ""
            entries.append((number, name, f"{_cut(name)}{times}  {scores.max():.2f}"))
    return entries or [(-1, "", f"nothing found that is one of {_count(len(question.classes), 'name')}")]


def _of_prompt(answer: Answer, question: Question, number: int) -> Entry:
    prompt = question.prompts[number]
    asked = f"{'point' if len(prompt) == 2 else 'box'} {written(prompt)}"
    region = number
    name = str(number + 1)
    if not answer.masks[number].any():
        return -1, "", f"nothing at {asked}"
    if answer.classes is not None:
        region = int(answer.classes[number])
        name = question.classes[region]
        asked = f"{_cut(name)} at {asked}"
    return region, name, f"{asked}  {answer.scores[number]:.2f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cut(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 3]}..."


def draw(
    picture: np.ndarray, regions: np.ndarray, *, legend: Sequence[Entry], prompts: Sequence[Point | Box] = ()
) -> Image.Image:
    """picture: uint8 [H, W, 3]. regions: int [H, W], numbers, below 0 for none. prompts: drawn too, in pixels."""
    height, width = picture.shape[:2]
    size = _fit(height, width)
    image = _resize(Image.fromarray(picture), size)
    large = _nearest(regions, size)
    image = _paint(image, large)
    letters = max(round(max(size) / 50), 15)
    _mark(image, prompts, scale=size[0] / width)
    _name(image, large, {region: name for region, name, _ in legend if region >= 0}, letters=letters)
    return _with_legend(image, legend, letters=letters)


def _fit(height: int, width: int) -> tuple[int, int]:
    """Width and height of the overlay of a picture."""
    factor = min(max(_LEAST / max(height, width), 1), _MOST / max(height, width))
    return max(round(width * factor), 1), max(round(height * factor), 1)


def _nearest(regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Regions [H, W] at another width and height."""
    height, width = regions.shape
    columns = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(int)
    rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(int)
    return np.asarray(regions[rows[:, None], columns])


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Small pictures keep their pixels' edges: enlarged crisply by a whole factor first."""
    factor = -(-size[0] // image.width)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.LANCZOS)


def _paint(image: Image.Image, regions: np.ndarray) -> Image.Image:
    """Regions on grey, so that their colours are the legend's; light and dark edges stand out from every ground."""
    pixels = np.asarray(image, dtype=np.float32)
    table = np.array([colour(number) for number in range(int(regions.max()) + 1)] or [(0, 0, 0)], dtype=np.float32)
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    tinted = (1 - _OPACITY) * grey + _OPACITY * table[np.maximum(regions, 0)]
    painted = np.where((regions >= 0)[..., None], tinted, (pixels + grey) / 2)
    edge = np.zeros(regions.shape, dtype=bool)
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    edge[1:] |= regions[1:] != regions[:-1]
    wide = edge.copy()
    wide[:-1] |= edge[1:]
    wide[:, :-1] |= edge[:, 1:]
    painted[wide] = 255
    painted[edge] = 20
    return Image.fromarray(painted.astype(np.uint8))


def _mark(image: Image.Image, prompts: Sequence[Point | Box], *, scale: float) -> None:
    """Points as discs, boxes as frames, both dark and light."""
    pen = ImageDraw.Draw(image)
    for prompt in prompts:
        places = [scale * value for value in prompt]
        if len(places) == 2:
            x, y = places
            pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=_EDGE, outline=_INK, width=3)
        else:
            pen.rectangle(places, outline=_INK, width=5)
            pen.rectangle([places[0] + 1, places[1] + 1, places[2] - 1, places[3] - 1], outline=_EDGE, width=2)


def _name(image: Image.Image, regions: np.ndarray, names: dict[int, str], *, letters: int) -> None:
    """Write each region's name on its largest part, unless that is too small to bear it."""
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=letters)
    step = max(max(regions.shape) // 160, 1)
    coarse = regions[::step, ::step]  # enough to find a place
    for number, name in names.items():
        if not (coarse == number).any():
            continue
        part = max(components(coarse == number), key=np.count_nonzero)
        if part.mean() < _SMALL:
            continue
        rows, columns = part.nonzero()
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        half = pen.textlength(name, font=font) / 2 + 4
        x = min(max(step * columns[nearest], half), max(image.width - half, half))
        y = min(max(step * rows[nearest], letters), max(image.height - letters, letters))
        pen.text((x, y), name, fill="white", font=font, anchor="mm", stroke_width=3, stroke_fill=_INK)


def _with_legend(image: Image.Image, legend: Sequence[Entry], *, letters: int) -> Image.Image:
    """The picture above its legend, which has a ground of its own."""
    font = ImageFont.load_default(size=letters)
    width = max(image.width, _LEAST // 2)
    lines = list(_wrap(legend, width - letters, font, letters=letters))
    step = round(1.8 * letters)
    page = Image.new("RGB", (width, image.height + len(lines) * step + letters), _PAPER)
    page.paste(image, (0, 0))
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        middle = image.height + letters // 2 + round((number + 0.5) * step)
        for left, region, text in line:
            if region >= 0:
                square = (left, middle - letters // 2, left + letters, middle + letters // 2)
                pen.rectangle(square, fill=colour(region), outline=_INK)
                left += round(1.4 * letters)
            pen.text((left, middle), text, fill=_INK, font=font, anchor="lm")
    return page


def _wrap(
    legend: Sequence[Entry], width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, letters: int
) -> Iterator[list[tuple[int, int, str]]]:
    """The legend in lines that fit: (left edge, region, text)."""
    line: list[tuple[int, int, str]] = []
    left = letters // 2
    for region, _, text in legend:
        wide = round(font.getlength(text) + 3.4 * letters)
        if line and left + wide > width:
            yield line
            line, left = [], letters // 2
        line.append((left, region, text))
        left += wide
    if line:
        yield line
