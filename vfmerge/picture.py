"""A gallery: the same held-out pictures as each parent and the merged model see them, as one PNG.

Axis letters: H x W pixels of a picture; everything is drawn on panels of a fixed side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vfmerge import commit
from vfmerge.benchmarks.benchmark import image_text_of, promptable_of, samples
from vfmerge.benchmarks.prompts import tight_boxes
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation, annotated, label_map
from vfmerge.benchmarks.two_heads import components
from vfmerge.capability import Capability, ImageText, Promptable
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError
from vfmerge.store import Store

CLASSES = ("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
"""Paul Tol's `muted` scheme, which colour-blind people can tell apart; a tenth class begins again."""
THINGS = ("#ee8866", "#77aadd", "#bbcc33", "#ffaabb", "#44bb99", "#eedd88", "#99ddff", "#aaaa00")
"""Paul Tol's `light` scheme, for masks that have no name."""

_SIDE, _GAP, _MARGIN, _TOP, _LEGEND = 208, 10, 24, 62, 34  # pixels of the drawing
_PAPER, _INK, _FAINT = "#ffffff", "#1a1a1a", "#6b6b6b"
_OPACITY = 0.72
_SEARCH = 8  # times the wanted number of pictures are looked through for crowded ones


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One picture with regions on it.

    regions: int64 [H, W], which region each pixel is of, below 0 for none. colours: one a region. names: the same.
    """

    picture: np.ndarray
    regions: np.ndarray
    colours: Sequence[str] = ()
    names: Sequence[str] = ()


def draw(
    path: Path,
    *,
    source: Source,
    benchmark: ZeroShotSegmentation,
    parents: Mapping[str, Capability],
    merged: Mapping[str, Capability],
    count: int = 6,
) -> None:
    """Write the gallery of `count` pictures of `source`, those with several things first.

    benchmark: how pictures are labelled, and which parents give text-aligned cells and masks. parents, merged:
    capabilities by task. Raises InputError if the source has no masks or class names, or no picture of use.
    """
    if lack := benchmark.lacks(source):
        raise InputError(f"no gallery of pictures without {lack}; give a data set that has them")
    names = benchmark.tasks()
    segmenter = promptable_of(parents, names[Promptable.name])
    reader = image_text_of(parents, names[ImageText.name])
    both = image_text_of(merged, names[ImageText.name]), promptable_of(merged, names[Promptable.name])
    if segmenter is None or reader is None or both[0] is None or both[1] is None:
        raise InputError(f"no gallery without {names[ImageText.name]} and {names[Promptable.name]}; give both parents")
    shown = _choose(source, count)
    alone = benchmark.labeller({names[ImageText.name]: reader}, source.classes, store=Store())
    together = benchmark.labeller(merged, source.classes, store=Store())
    rows = [
        [
            _bare(sample),
            _true(sample, source.classes),
            masks(sample, segmenter),
            labels(sample.image, alone.label(sample.image, name=sample.name), source.classes),
            labels(sample.image, together.label(sample.image, name=sample.name), source.classes),
        ]
        for sample in shown
    ]
    titles = (
        ("picture", "held out"),
        ("ground truth", "what is there"),
        (f"parent {names[Promptable.name]}", "given boxes; knows no names"),
        (f"parent {names[ImageText.name]}", "its cells; knows no outlines"),
        ("merged model", "names and outlines, unprompted"),
    )
    page = _page(rows, titles, legend(shown, source.classes))
    commit.write_file(path, lambda temporary: page.save(temporary, format="PNG", optimize=True))


def _choose(source: Source, count: int) -> list[Sample]:
    """The first pictures with two things or more; if they are few, others with one."""
    looked_at = samples(source, limit=min(_SEARCH * count, len(source)))
    found = [sample for sample in looked_at if annotated(sample) and len(things(sample))]
    if not found:
        raise InputError("no gallery of pictures without a mask; give a data set that has some")
    return sorted(found, key=lambda sample: len(things(sample)) < 2)[:count]


def things(sample: Sample) -> np.ndarray:
    """What lies in an annotated picture: its masks, or, where it has a map alone, all of a class as one [N, H, W]."""
    if sample.masks is not None:
        return sample.masks[sample.masks.any(axis=(1, 2))]
    assert sample.pixels is not None
    there = np.unique(sample.pixels[sample.pixels >= 0])
    return np.asarray(sample.pixels == there[:, None, None])


def _bare(sample: Sample) -> Panel:
    return Panel(picture=sample.image, regions=np.full(sample.image.shape[:2], -1))


def _true(sample: Sample, classes: Sequence[str]) -> Panel:
    return labels(sample.image, label_map(sample, background=len(classes)), classes)


def masks(sample: Sample, segmenter: Promptable) -> Panel:
    """What a segmenter makes of the boxes of the true masks, the smaller over the larger."""
    import torch

    regions = np.full(sample.image.shape[:2], -1)
    truth = things(sample)
    logits, _ = segmenter.set_image(sample.image).predict(boxes=torch.from_numpy(tight_boxes(truth)))
    found = (logits[:, 0] > 0).cpu().numpy()
    for number in np.argsort(-found.sum(axis=(1, 2)), kind="stable"):
        regions[found[number]] = number
    colours = [THINGS[number % len(THINGS)] for number in range(len(found))]
    return Panel(picture=sample.image, regions=regions, colours=colours, names=[""] * len(found))


def labels(picture: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Panel:
    """A label map; the number after the last class is the background."""
    colours = [CLASSES[number % len(CLASSES)] for number in range(len(classes))]
    regions = np.where(labels < len(classes), labels, -1)
    return Panel(picture=picture, regions=regions, colours=colours, names=classes)


def legend(shown: Sequence[Sample], classes: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and name of the classes that are in the pictures."""
    maps = (label_map(sample, background=len(classes)) for sample in shown)
    there = {int(label) for labels in maps for label in np.unique(labels) if 0 <= label < len(classes)}
    return [(CLASSES[label % len(CLASSES)], classes[label]) for label in sorted(there)]


def describe(panel: Panel) -> str:
    """What a panel shows, for those who cannot see it: the names of its regions, the largest first."""
    numbers, areas = np.unique(panel.regions[panel.regions >= 0], return_counts=True)
    found = [panel.names[number] for number in numbers[np.argsort(-areas)] if panel.names and panel.names[number]]
    return ", ".join(found) or ("regions without names" if len(numbers) else "nothing marked")


def _page(
    rows: Sequence[Sequence[Panel]], titles: Sequence[tuple[str, str]], legend: Sequence[tuple[str, str]]
) -> Image.Image:
    width = 2 * _MARGIN + len(titles) * (_SIDE + _GAP) - _GAP
    lines = list(_wrap(legend, width - 2 * _MARGIN))
    height = _TOP + len(rows) * (_SIDE + _GAP) + len(lines) * _LEGEND + _MARGIN // 2
    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    for column, (title, subtitle) in enumerate(titles):
        left = _MARGIN + column * (_SIDE + _GAP)
        pen.text((left, 14), title, fill=_INK, font=_font(17))
        pen.text((left, 37), subtitle, fill=_FAINT, font=_font(12))
        for row, panels in enumerate(rows):
            page.paste(render(panels[column]), (left, _TOP + row * (_SIDE + _GAP)))
    for number, line in enumerate(lines):
        top = _TOP + len(rows) * (_SIDE + _GAP) + number * _LEGEND
        for left, colour, name in line:
            pen.rectangle((_MARGIN + left, top + 9, _MARGIN + left + 16, top + 25), fill=colour)
            pen.text((_MARGIN + left + 24, top + 17), name, fill=_INK, font=_font(14), anchor="lm")
    return page


def _wrap(legend: Sequence[tuple[str, str]], width: int) -> Iterator[list[tuple[int, str, str]]]:
    """The legend in lines that fit: (left edge, colour, name)."""
    line: list[tuple[int, str, str]] = []
    left = 0
    for colour, name in legend:
        wide = 48 + int(_font(14).getlength(name))
        if line and left + wide > width:
            yield line
            line, left = [], 0
        line.append((left, colour, name))
        left += wide
    if line:
        yield line


def render(panel: Panel) -> Image.Image:
    """A panel of the gallery: regions in colour on the grey picture, outlined, each class's largest part named."""
    size = _fit(panel.picture.shape[0], panel.picture.shape[1])
    image = _resize(Image.fromarray(panel.picture), size)
    regions = np.array(Image.fromarray(panel.regions.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    if panel.colours:
        image = _paint(image, regions, panel.colours)
        _name(image, regions, panel.names)
    framed = Image.new("RGB", (_SIDE, _SIDE), "#f0f0f0")
    framed.paste(image, ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    return framed


def _fit(height: int, width: int) -> tuple[int, int]:
    """Width and height of a picture that fills a panel."""
    factor = _SIDE / max(height, width)
    return max(round(width * factor), 1), max(round(height * factor), 1)


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Small pictures keep their pixels' edges: enlarged crisply by a whole factor first."""
    factor = -(-size[0] // image.width)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.LANCZOS)


def _paint(image: Image.Image, regions: np.ndarray, colours: Sequence[str]) -> Image.Image:
    grey = np.repeat(np.asarray(image.convert("L"), dtype=float)[..., None], 3, axis=2)
    table = np.array([_rgb(colour) for colour in colours], dtype=float)
    inside = (regions >= 0)[..., None]
    painted = np.where(inside, (1 - _OPACITY) * grey + _OPACITY * table[np.maximum(regions, 0)], 0.75 * grey + 50)
    edge = np.zeros(regions.shape, dtype=bool)
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    edge[1:] |= regions[1:] != regions[:-1]
    painted[edge] = 255
    return Image.fromarray(painted.astype(np.uint8))


def _name(image: Image.Image, regions: np.ndarray, names: Sequence[str]) -> None:
    """Write each class's name on its largest part, unless that is too small to bear it."""
    pen = ImageDraw.Draw(image)
    coarse = regions[2::4, 2::4]  # a quarter of the side is enough to find a place
    for number in np.unique(coarse[coarse >= 0]):
        part = max(components(coarse == number), key=np.count_nonzero)
        if part.mean() > 0.015 and names[number]:
            rows, columns = part.nonzero()
            nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
            half = pen.textlength(names[number], font=_font(13)) / 2 + 3
            x = min(max(4 * columns[nearest] + 2, half), image.width - half)
            y = min(max(4 * rows[nearest] + 2, 10), image.height - 10)
            pen.text((x, y), names[number], fill="white", font=_font(13), anchor="mm", stroke_width=2, stroke_fill=_INK)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
