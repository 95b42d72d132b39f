"""Weather, and the light of the day.

Each takes a picture uint8 [H, W, 3], its draw and its setting, and gives values [H, W, 3]: 0 is black, 1 is white.

Axis letters: H x W pixels, S side of a square.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .filters import convolve, enlarge, line

_TINT = np.array([0.88, 1.0, 1.08])  # of the ice, red, green and blue
_PAGE, _NEEDLES = 256, 350  # side of the square that ice is drawn on, in pixels; how many needles


def snow(
    picture: np.ndarray,
    draw: np.random.Generator,
    amount: float,
    spread: float,
    size: float,
    least: float,
    radius: float,
    sigma: float,
    kept: float,
) -> np.ndarray:
    """Flakes fall before a whitened picture, and as many on the other side of its middle.

    Flakes are normal noise of mean `amount` and deviation `spread`, enlarged `size` times, where it is `least` or more,
    and fall with a motion of `radius` and `sigma`. kept: the share of the picture that is not whitened.
    """
    noise = draw.normal(amount, spread, picture.shape[:2]).astype(np.float32)
    flakes = np.asarray(enlarge(Image.fromarray(noise), size), dtype=float)
    flakes = np.where(flakes < least, 0, np.clip(flakes, 0, 1))
    flakes = convolve(flakes, line(radius, sigma, draw.uniform(-135, -45)))[..., None]
    values = picture / 255
    grey = values @ [0.299, 0.587, 0.114]
    white = np.maximum(values, 1.5 * grey[..., None] + 0.5)
    covered: np.ndarray = kept * values + (1 - kept) * white + flakes + flakes[::-1, ::-1]
    return covered


def frost(picture: np.ndarray, draw: np.random.Generator, kept: float, amount: float) -> np.ndarray:
    """Ice before the picture: this share of the picture, and so much ice on it.

    The authors lay photographs of ice over it; ours is drawn, of about their colours and contrast (chosen here).
    """
    iced: np.ndarray = kept * picture / 255 + amount * _ice(draw, picture.shape[:2])[..., None] * _TINT
    return iced


def fog(picture: np.ndarray, draw: np.random.Generator, thickness: float, decay: float) -> np.ndarray:
    """Haze that is `thickness` white where it is thickest; detail of half the size is `decay` squared times weaker."""
    values = picture / 255
    brightest = values.max()
    haze = plasma(draw, values.shape[:2], decay=decay)[..., None]
    dimmed: np.ndarray = (values + thickness * haze) * brightest / (brightest + thickness)
    return dimmed


def brightness(picture: np.ndarray, draw: np.random.Generator, more: float) -> np.ndarray:
    """Daylight: so much is added to the value of HSV; hue and saturation stay."""
    values = picture / 255
    value = values.max(axis=2, keepdims=True)
    lit = np.minimum(value + more, 1)
    bright: np.ndarray = np.where(value > 0, values * lit / np.maximum(value, 1 / 255), lit)
    return bright


def plasma(draw: np.random.Generator, frame: tuple[int, int], *, decay: float) -> np.ndarray:
    """A fractal cloud [H, W] in 0..1, by the diamond-square algorithm (Fournier, Fussell and Carpenter 1982)."""
    side = 1 << (max(*frame, 2) - 1).bit_length()
    cloud = np.zeros((side, side))
    step, amplitude = side, 1.0
    while step > 1:
        half = step // 2
        corners = cloud[::step, ::step]
        across = corners + np.roll(corners, -1, axis=1)
        middles = _stray(draw, across + np.roll(across, -1, axis=0), amplitude)
        cloud[half::step, half::step] = middles
        cloud[::step, half::step] = _stray(draw, across + middles + np.roll(middles, 1, axis=0), amplitude)
        down = corners + np.roll(corners, -1, axis=0)
        cloud[half::step, ::step] = _stray(draw, down + middles + np.roll(middles, 1, axis=1), amplitude)
        step, amplitude = half, amplitude / decay**2
    cloud -= cloud.min()
    shown: np.ndarray = cloud[: frame[0], : frame[1]] / cloud.max()
    return shown


def _stray(draw: np.random.Generator, four: np.ndarray, amplitude: float) -> np.ndarray:
    """The means of sums of four, and a little more or less."""
    return four / 4 + draw.uniform(-amplitude, amplitude, four.shape)


def _ice(draw: np.random.Generator, frame: tuple[int, int]) -> np.ndarray:
    """Needles and ridges of ice on a milky film [H, W], about 0.3 to 1; as coarse in pictures of any size."""
    page = Image.new("F", (_PAGE, _PAGE))
    pen = ImageDraw.Draw(page)
    for _ in range(_NEEDLES):
        x, y, turn = draw.uniform(0, (_PAGE, _PAGE, 2 * np.pi))
        length = _PAGE * draw.uniform(0.02, 0.2)
        pen.line((x, y, x + length * np.cos(turn), y + length * np.sin(turn)), fill=draw.uniform(0.2, 1))
    film, veins = (plasma(draw, (_PAGE, _PAGE), decay=1.5) for _ in range(2))
    ridges = (1 - abs(2 * veins - 1)) ** 4
    ice = Image.fromarray((0.32 + 0.35 * film + 0.25 * ridges + 0.35 * np.asarray(page)).astype(np.float32))
    scale = _PAGE / max(frame)
    seen = ice.resize((frame[1], frame[0]), Image.Resampling.BICUBIC, box=(0, 0, scale * frame[1], scale * frame[0]))
    return np.asarray(seen, dtype=float)
