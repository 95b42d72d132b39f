"""The fifteen common corruptions: what they do to pictures of any size, and that they do it again.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import colorsys
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfmerge import random
from vfmerge.benchmarks.corruptions import blur, digital, filters, weather
from vfmerge.benchmarks.corruptions.corruption import NAMES, corrupt
from vfmerge.benchmarks.corruptions.settings import setting
from vfmerge.data.shapes import scene

DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog")
"""Those that have a part of chance, and elastic_transform."""


def damaged(picture: np.ndarray, name: str, severity: int, *key: object) -> np.ndarray:
    return corrupt(picture, name=name, severity=severity, draw=random.generator("test", name, severity, *map(str, key)))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Real photographs of 224 pixels where there are some, else scenes of the shapes world."""
    if data := os.environ.get("VFMERGE_DATA"):
        files = sorted((Path(data) / "coco128" / "images").glob("*.jpg"))[:6]
        return [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    return [scene(seed=0, split="t", index=index, layout="several", size=224).image for index in range(6)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frame", [(8, 8), (16, 16), (37, 100), (64, 64), (300, 225)])
def test_pictures_of_any_size(name: str, frame: tuple[int, int]) -> None:
    """A picture stays a picture of its size, is not the same, and is not changed in place."""
    picture = noise(*frame)
    before = picture.copy()
    for severity in (2, 5):
        found = damaged(picture, name, severity)
        assert (found.shape, found.dtype) == (picture.shape, np.uint8)
        assert (found != picture).any()
    assert (picture == before).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grey", [0, 255])
def test_plain_pictures(name: str, grey: int) -> None:
    """Black and white are no trouble."""
    assert damaged(np.full((32, 48, 3), grey, np.uint8), name, 3).shape == (32, 48, 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_draw_gives_the_same_picture(name: str) -> None:
    """Nothing depends on what was done before; another draw is another picture where there is chance."""
    picture = noise(64, 80)
    first = damaged(picture, name, 4, "a")
    np.random.default_rng(3).random()
    assert (damaged(picture, name, 4, "a") == first).all()
    assert (damaged(picture, name, 4, "b") != first).any() == (name in (*DRAWN, "elastic_transform"))


def differs(picture: np.ndarray, other: np.ndarray) -> float:
    """By how much pixels differ, on average."""
    return float(abs(picture.astype(float) - other).mean())


def unlike(picture: np.ndarray, other: np.ndarray) -> float:
    """How little of the one is in the other, whatever the light."""
    return 1 - float(np.corrcoef(picture.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("name", NAMES)
def test_damage_grows_with_severity(name: str, photographs: list[np.ndarray]) -> None:
    """The paper's settings damage more at each severity, each in its own way.

    Frost and fog hide more of the picture, and make it brighter or darker. Frosted glass scatters further, or more
    often. Elastic bends the whole picture at severities 1 and 2, and ever more of its parts at 3 to 5.
    """
    measure = unlike if name in ("frost", "fog") else differs
    damage = [
        np.mean(
            [measure(x, corrupt(x, name=name, severity=s, draw=random.generator(n))) for n, x in enumerate(photographs)]
        )
        for s in range(1, 6)
    ]
    ordered = {"glass_blur": damage[::2], "elastic_transform": damage[2:]}.get(name, damage)
    assert (np.diff(ordered) > 0).all(), damage


def test_settings_are_of_the_nearest_size() -> None:
    """The authors' three sizes have their own numbers, and every other size has those of one of them."""
    assert setting("gaussian_noise", severity=5, side=32) == setting("gaussian_noise", severity=5, side=8) == (0.10,)
    assert setting("gaussian_noise", severity=5, side=64) == setting("gaussian_noise", severity=5, side=96) == (0.18,)
    assert (
        setting("gaussian_noise", severity=5, side=224) == setting("gaussian_noise", severity=5, side=4000) == (0.38,)
    )


def test_convolution_equals_its_definition() -> None:
    """By FFT or cell by cell, with edges mirrored, also where the kernel is larger than the picture."""
    draw = np.random.default_rng(1)
    values, kernel = draw.random((5, 7)), draw.random((13, 13))
    padded = np.pad(values, 6, mode="reflect")
    expected = [
        [(padded[row : row + 13, column : column + 13] * kernel[::-1, ::-1]).sum() for column in range(7)]
        for row in range(5)
    ]
    assert np.allclose(filters.convolve(values, kernel), expected)
    coloured = filters.convolve(np.stack([values, 2 * values], axis=2), kernel)
    assert np.allclose(coloured[..., 1], 2 * np.array(expected))


@pytest.mark.parametrize("angle", [0, 30, -45, -135])
def test_blurs_keep_the_light(angle: float) -> None:
    """Kernels sum to one; a trail is as long as it should be, and brightest where it begins."""
    kernel = filters.line(5, 3, angle)
    assert kernel.sum() == pytest.approx(1)
    rows, columns = kernel.nonzero()
    assert np.allclose(np.unravel_index(kernel.argmax(), kernel.shape), 10, atol=1)
    assert np.hypot(rows - 10, columns - 10).max() == pytest.approx(10, abs=1)
    assert filters.gaussian(1.5).sum() == pytest.approx(1)


def test_frosted_glass_equals_one_pixel_after_the_other() -> None:
    """The shuffle gives what a loop from the last pixel to the first gives."""
    frame, far = (13, 17), 3
    found = blur._shuffle(random.generator("glass"), frame, far).reshape(frame)
    down, right = random.generator("glass").integers(-far, far, size=(2, *frame))
    expected = np.arange(13 * 17).reshape(frame)
    for row in reversed(range(13)):
        for column in reversed(range(17)):
            there = np.clip(row + down[row, column], 0, 12), np.clip(column + right[row, column], 0, 16)
            expected[row, column] = expected[there]
    assert (found == expected).all()


def test_brightness_raises_the_value_alone() -> None:
    """As the standard library's HSV has it: hue and saturation stay."""
    picture = noise(4, 5)
    lit = weather.brightness(picture, random.generator(), 0.2).reshape(-1, 3)
    for before, after in zip(picture.reshape(-1, 3) / 255, lit, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert np.allclose(after, colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1)))


def test_an_unbent_picture_is_itself() -> None:
    """Without amplitude and stretch every place is its own; stretch moves corners, amplitude moves pixels a little."""
    picture = noise(40, 56)
    assert np.allclose(digital.elastic_transform(picture, random.generator("e"), 0, 0, 0), picture / 255)
    ramp = np.repeat(np.arange(0, 224, 4, dtype=np.uint8)[None, :, None].repeat(40, 0), 3, axis=2)
    moved = digital.elastic_transform(ramp, random.generator("e"), 0.1, 0.03, 0) * 255 / 4 - np.arange(56)[:, None]
    assert 0.1 < moved[:, 8:-8].std() < 1.5  # pixels


def test_clouds_fill_their_range() -> None:
    """Plasma of any frame is in 0..1 and smooth: neighbours are nearer to each other than strangers."""
    for frame in ((1, 1), (9, 100), (128, 128)):
        cloud = weather.plasma(random.generator("cloud"), frame, decay=2)
        assert cloud.shape == frame
        assert (cloud.min() >= 0, cloud.max() <= 1) == (True, True)
    assert abs(np.diff(cloud)).mean() < 0.1 * abs(cloud - cloud.T).mean()
