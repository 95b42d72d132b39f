"""Decoding of pictures: golden pixels for each mode, orientation, and damage."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from vfmerge import random
from vfmerge.data import picture
from vfmerge.errors import BadSample

SCENE = np.kron(random.generator("test_pictures").integers(0, 256, (3, 5, 3), dtype=np.uint8), np.ones((8, 8, 1), "u1"))
ORIENTATIONS = range(1, 9)


def encode(image, kind, **options):
    """The bytes of a file; `image` is a PIL image or a uint8 array."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(orientation, kind="PNG", image=SCENE):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, kind, exif=exif)


def upright(orientation):
    """What Pillow's own transposition makes of the scene."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(SCENE)
    image.info["exif"] = exif.tobytes()
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_the_stored_pixels(kind):
    """What was saved without loss comes back to the bit, writable."""
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = picture.decode(encode(SCENE, kind, **options), name="x")
    assert np.array_equal(decoded, SCENE)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable


def test_jpeg_is_decoded_as_by_pillow():
    """A JPEG gives the pixels that Pillow alone gives."""
    data = encode(SCENE, "JPEG")
    assert np.array_equal(picture.decode(data, name="x"), np.asarray(Image.open(io.BytesIO(data))))


def test_grey_becomes_three_equal_channels():
    """Mode L is repeated."""
    assert np.array_equal(picture.decode(encode(SCENE[..., 0], "PNG"), name="x"), np.repeat(SCENE[..., :1], 3, axis=2))


def test_one_bit_becomes_black_and_white():
    """Mode 1 gives 0 and 255."""
    bits = SCENE[..., 0] > 127
    decoded = picture.decode(encode(Image.fromarray(bits), "PNG"), name="x")
    assert np.array_equal(decoded[..., 0], bits * np.uint8(255))


def test_sixteen_bits_keep_the_upper_eight():
    """16-bit grey is scaled, where Pillow's own conversion is white nearly everywhere."""
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = picture.decode(encode(Image.fromarray(ramp), "PNG"), name="x")
    assert np.array_equal(decoded, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 40), (128, 147)])
def test_transparency_is_laid_on_white(alpha, expected):
    """RGBA and LA are composited: 40 under alpha 128 is 40 * 128/255 + 255 * 127/255."""
    for mode, pixel in (("RGBA", (40, 40, 40, alpha)), ("LA", (40, alpha))):
        decoded = picture.decode(encode(Image.new(mode, (9, 9), pixel), "PNG"), name="x")
        assert np.abs(decoded.astype(int) - expected).max() <= 1


def test_transparent_colour_of_a_palette_is_white():
    """Mode P with a transparent entry."""
    image = Image.new("P", (10, 10), 1)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(0, (0, 0, 5, 10))
    decoded = picture.decode(encode(image, "PNG", transparency=0), name="x")
    assert (decoded[:, :5] == 255).all()
    assert (decoded[:, 5:] == (200, 0, 0)).all()


def test_cmyk_is_converted():
    """A CMYK JPEG of pure cyan is the RGB without red."""
    decoded = picture.decode(encode(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG"), name="x")
    assert np.abs(decoded.astype(int) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(kind):
    """Later frames are not read."""
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(picture.decode(data, name="x").astype(int) - (255, 0, 0)).max() <= 4


def test_float_and_other_formats_are_refused():
    """TIFF, the format that holds floats, is not opened."""
    with pytest.raises(BadSample, match="x: is no JPEG"):
        picture.decode(encode(Image.new("F", (9, 9), 0.5), "TIFF"), name="x")


def test_postscript_is_never_opened():
    """EPS would start Ghostscript."""
    with pytest.raises(BadSample, match="is no JPEG"):
        picture.decode(encode(SCENE, "EPS"), name="x")


@pytest.mark.parametrize("side", [7, 8])
def test_smallest_side(side):
    """Eight pixels are enough, seven are not."""
    data = encode(Image.new("RGB", (side, 50)), "PNG")
    if side == 8:
        assert picture.decode(data, name="x").shape == (50, 8, 3)
    else:
        with pytest.raises(BadSample, match="7 x 50 pixels"):
            picture.decode(data, name="x")


def test_bomb_is_refused_by_its_header():
    """A small file of 121 megapixels is refused without unpacking, below the size at which Pillow raises."""
    data = encode(Image.new("1", (11_000, 11_000)), "PNG")
    with pytest.raises(BadSample, match="at most 100,000,000"):
        picture.decode(data, name="x")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation):
    """Without annotations a picture is turned upright."""
    assert np.array_equal(picture.decode(oriented(orientation), name="x"), upright(orientation))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_meaningless_orientation_is_harmless(orientation):
    """Values that EXIF does not define leave the picture as stored."""
    assert np.array_equal(picture.decode(oriented(orientation), name="x"), SCENE)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_annotated_as_stored_stays_as_stored(orientation):
    """Masks drawn on the raw picture keep fitting it."""
    decoded = picture.decode(oriented(orientation), name="x", annotated=SCENE.shape[:2])
    assert np.array_equal(decoded, SCENE)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotated_upright_is_turned(orientation):
    """Masks drawn on the turned picture fit the turned picture."""
    decoded = picture.decode(oriented(orientation), name="x", annotated=SCENE.shape[1::-1])
    assert np.array_equal(decoded, upright(orientation))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_annotated_with_sides_swapped_without_reason_is_refused(orientation):
    """A picture that is not on its side is never turned to fit."""
    with pytest.raises(BadSample, match="is 40 x 24 pixels, but annotated as 24 x 40"):
        picture.decode(oriented(orientation), name="x", annotated=SCENE.shape[1::-1])


def test_annotated_of_another_size_is_refused():
    """Neither orientation agrees."""
    with pytest.raises(BadSample, match="annotated as 41 x 24"):
        picture.decode(oriented(6), name="x", annotated=(24, 41))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_every_truncation_is_refused_or_whole(kind):
    """Cut anywhere, a file is refused, or what was cut held no pixel."""
    data = encode(random.generator("cut").integers(0, 256, (40, 50, 3), dtype=np.uint8), kind)
    whole = picture.decode(data, name="x")
    refused = 0
    for length in np.linspace(0, len(data) - 1, 100).astype(int):
        try:
            assert np.array_equal(picture.decode(data[:length], name="x"), whole)
        except BadSample:
            refused += 1
    assert refused > 90


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_mutants_are_decoded_or_refused(kind):
    """500 files with up to eight damaged bytes each: nothing but BadSample, on one line, escapes."""
    data = np.frombuffer(oriented(6, kind=kind), dtype=np.uint8)
    outcomes = []
    for number in range(500):
        draw = random.generator("mutants", kind, number)
        mutant = data.copy()
        mutant[draw.integers(0, len(data), draw.integers(1, 9))] = draw.integers(0, 256)
        try:
            outcomes.append(picture.decode(mutant.tobytes(), name="x").dtype.name)
        except BadSample as error:
            outcomes.append(f"refused with {len(str(error))} characters on {len(str(error).splitlines())} lines")
    refusals = [outcome for outcome in outcomes if outcome != "uint8"]
    assert 0 < len(refusals) < 500
    assert all(int(refusal.split()[2]) <= 200 and refusal.endswith("on 1 lines") for refusal in refusals)


def test_garbage_and_nothing_are_refused():
    """Bytes that are no picture."""
    for data in (b"", b"\0" * 1000, b"GIF89a", b"\xff\xd8\xff"):
        with pytest.raises(BadSample, match=r"^x: "):
            picture.decode(data, name="x")
