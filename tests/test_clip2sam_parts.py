"""The small exact parts of CLIP2SAM against references that are written out here: regions, losses, points, fusion."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper
from vfmerge_adapters.clip2sam.fusion import covers, fuse
from vfmerge_adapters.clip2sam.rois import align, crop

from vfmerge import losses, points, random

EXACT = {"atol": 1e-5, "rtol": 1e-5}
STRIDES = (4, 8, 16, 32)
BOXES = torch.tensor(  # one a line: inside, thin, over the left edge, over the lower right corner
    [[5.3, 7.9, 21.4, 30.2], [10.0, 2.5, 11.5, 47.0], [-9.0, 4.0, 13.0, 9.0], [40.0, 30.5, 61.0, 55.0]]
)


def between(cells: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear of cells [C, h, w] at a place counted in cells, from the centre of the first; zero beyond the map."""
    left, top = math.floor(x), math.floor(y)
    value = np.zeros(len(cells))
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < cells.shape[1] and 0 <= column < cells.shape[2]:
            value += cells[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def region(cells: np.ndarray, box: np.ndarray, *, stride: int, side: int) -> np.ndarray:
    """RoIAlign of cells [C, h, w] by loops: [C, side, side]."""
    height, width = cells.shape[1:]
    left, top, right, bottom = box / stride - 0.5
    high, wide = (bottom - top) / side, (right - left) / side  # of a bin, in cells
    rows, columns = math.ceil(high), math.ceil(wide)  # samples a bin
    found = np.zeros((len(cells), side, side))
    for i, j in np.ndindex(side, side):
        for a, b in np.ndindex(max(rows, 0), max(columns, 0)):
            y, x = top + (i + (a + 0.5) / rows) * high, left + (j + (b + 0.5) / columns) * wide
            if -1 <= y <= height and -1 <= x <= width:  # a cell beyond the outermost centres, the rim goes on
                inside = between(cells, min(max(y, 0), height - 1), min(max(x, 0), width - 1))
                found[:, i, j] += inside / (rows * columns)
    return found


def pyramid(*, images: int, side: int, channels: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(images, channels, side // stride, side // stride) for stride in STRIDES]


def boxes_of_all_sizes(count: int, *, side: int) -> torch.Tensor:
    torch.manual_seed(1)
    sizes = torch.exp(torch.empty(count, 2).uniform_(math.log(40), math.log(side)))
    corners = torch.rand(count, 2) * (side - sizes)
    return torch.cat([corners, corners + sizes], dim=1)


def test_a_region_is_roi_align() -> None:
    """Against loops, at a stride and side at which bins have from one to several samples."""
    torch.manual_seed(0)
    cells, owner = torch.randn(2, 2, 12, 13), torch.tensor([1, 0, 0, 1])
    found = crop(cells, BOXES, owner, stride=4, side=3)
    pairs = zip(owner, BOXES.double().numpy(), strict=True)
    wanted = [region(cells[image].double().numpy(), box, stride=4, side=3) for image, box in pairs]
    torch.testing.assert_close(found.double(), torch.from_numpy(np.stack(wanted)), **EXACT)


def test_a_region_of_a_slope_is_the_slope() -> None:
    """A map that says where its cells are, in pixels, says where the bins of a box are."""
    column = (torch.arange(16.0) + 0.5) * 8
    found = crop(
        column.expand(1, 1, 16, 16), torch.tensor([[16.0, 24.0, 64.0, 120.0]]), torch.zeros(1), stride=8, side=4
    )
    torch.testing.assert_close(found[0, 0], torch.tensor([22.0, 34.0, 46.0, 58.0]).expand(4, 4), **EXACT)


def test_regions_of_a_pyramid_are_torchvisions() -> None:
    """Levels and regions of boxes of all sizes in two images, handed over in turns."""
    side, maps = 1024, pyramid(images=2, side=1024)
    boxes = boxes_of_all_sizes(24, side=side)
    owner = torch.arange(24) % 2
    levels = LevelMapper(2, 5)([boxes])
    assert set(levels.tolist()) == {0, 1, 2, 3}
    # torchvision's pooler has cells' corners where RoIAlign has their centres since: half a cell of the level apart
    moved = boxes + (torch.tensor(STRIDES)[levels] / 2).unsqueeze(1)
    found = align(maps, moved, owner, strides=STRIDES, side=5)
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=5, sampling_ratio=0)
    named = {str(number): each for number, each in enumerate(maps)}
    wanted = pooler(named, [boxes[owner == image] for image in range(2)], [(side, side)] * 2)
    torch.testing.assert_close(torch.cat([found[owner == image] for image in range(2)]), wanted, **EXACT)


@pytest.mark.parametrize(
    ("size", "level"),
    [(1.0, 0), (111.9, 0), (111.99999, 1), (112.0, 1), (223.9, 1), (224.0, 2), (447.9, 2), (448.0, 3), (1000.0, 3)],
)
def test_a_box_is_read_from_the_map_of_its_size(size: float, level: int) -> None:
    """Twice the finest size is one level up, but for rounding; sizes are of area, and beyond the last is the last."""
    maps = [torch.full((1, 1, 2048 // stride, 2048 // stride), float(number)) for number, stride in enumerate(STRIDES)]
    box = torch.tensor([[0.0, 0.0, size / 2, size * 2]])
    found = align(maps, box, torch.zeros(1), strides=STRIDES, side=2)
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2), float(level)))
    smaller = align(maps, box / 2, torch.zeros(1), strides=STRIDES, side=2, finest=28)
    torch.testing.assert_close(smaller, found)


def test_regions_are_twelve_cells_wide() -> None:
    """The side of the published code is the default."""
    maps = pyramid(images=1, side=64)
    assert align(maps, BOXES, torch.zeros(4), strides=STRIDES).shape == (4, 3, 12, 12)


def test_regions_send_gradients_to_their_own_map_and_cells() -> None:
    """A box in the second image reaches that image's cells under it, on its level alone; other maps get zeros."""
    maps = [each.requires_grad_() for each in pyramid(images=2, side=512)]
    found = align(maps, torch.tensor([[128.0, 64.0, 288.0, 192.0]]), torch.tensor([1]), strides=STRIDES)
    found.sum().backward()
    assert [each.grad is not None and each.grad.abs().sum().item() > 0 for each in maps] == [False, True, False, False]
    reached = maps[1].grad[:, 0] != 0
    assert not reached[0].any()
    assert reached[1].nonzero().amin(0).tolist() == [7, 15]  # row, column: the centres around the box
    assert reached[1].nonzero().amax(0).tolist() == [24, 36]
    assert maps[1].grad.sum().item() == pytest.approx(found.numel(), rel=1e-5)


def test_no_box_has_no_region() -> None:
    """An empty answer of the right shape, through which every map still has a gradient."""
    maps = [each.requires_grad_() for each in pyramid(images=2, side=64)]
    found = align(maps, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), strides=STRIDES)
    assert found.shape == (0, 3, 12, 12)
    found.sum().backward()
    assert all(each.grad is not None and not each.grad.any() for each in maps)


def test_one_map_is_a_pyramid_too() -> None:
    """Boxes of all sizes are read from it."""
    cells, boxes = pyramid(images=1, side=512)[2], boxes_of_all_sizes(6, side=512)
    found = align([cells], boxes, torch.zeros(6), strides=[16], side=4)
    torch.testing.assert_close(found, crop(cells, boxes, torch.zeros(6), stride=16, side=4), rtol=0, atol=0)
    assert found.std() > 0


def test_boxes_without_area_and_boxes_outside_hold_nothing() -> None:
    """Zeros, and the boxes among them are read as if they were alone."""
    maps = pyramid(images=1, side=64)
    bad = torch.tensor([[9.0, 9, 9, 9], [30, 30, 10, 10], [30, 9, 10, 40], [9, 9, 9, 50], [900, 900, 950, 950]])
    good = torch.tensor([[8.0, 8.0, 40.0, 48.0]])
    found = align(maps, torch.cat([bad[:2], good, bad[2:]]), torch.zeros(6), strides=STRIDES, side=3)
    assert not found[[0, 1, 3, 4, 5]].any()
    torch.testing.assert_close(found[2:3], align(maps, good, torch.zeros(1), strides=STRIDES, side=3))
    assert found[2].all()


@pytest.mark.parametrize("autocast", [False, True])
def test_regions_of_bf16(autocast: bool) -> None:
    """Read in float32, which torchvision can, and given back as the maps are; gradients too."""
    maps = [each.bfloat16().requires_grad_() for each in pyramid(images=1, side=64)]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = align(maps, BOXES, torch.zeros(4), strides=STRIDES, side=3)
    assert found.dtype == torch.bfloat16
    wide = align([each.float() for each in maps], BOXES, torch.zeros(4), strides=STRIDES, side=3)
    torch.testing.assert_close(found, wide.bfloat16())
    found.float().sum().backward()
    assert maps[0].grad.any()


def masks_for_losses() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and hard masks [6, 40]: some of both, all empty, all full, and the latter two answered wrongly."""
    torch.manual_seed(0)
    target = (torch.rand(6, 40) > 0.5).float()
    logits = 4 * torch.randn(6, 40)
    for row, (answer, truth) in enumerate([(-60, 0), (60, 1), (-60, 1), (60, 0)], start=2):
        logits[row], target[row] = answer, truth
    return logits, target


def test_mask_entropy_is_its_definition() -> None:
    """-t log p - (1 - t) log(1 - p) in float64, also where the logarithm of a rounded p would be infinite."""
    logits, target = masks_for_losses()
    x, t = logits.double().numpy(), target.double().numpy()
    wanted = (t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)).mean(1)
    torch.testing.assert_close(losses.mask_entropy(logits, target).double(), torch.from_numpy(wanted), **EXACT)
    assert wanted[2:].tolist() == pytest.approx([0, 0, 60, 60])


@pytest.mark.parametrize("eps", [1.0, 0.25])
def test_naive_dice_is_its_definition(eps: float) -> None:
    """In float64; empty and full masks cost nothing when answered, and nearly one when not."""
    logits, target = masks_for_losses()
    p, t = 1 / (1 + np.exp(-logits.double().numpy())), target.double().numpy()
    wanted = 1 - (2 * (p * t).sum(1) + eps) / (p.sum(1) + t.sum(1) + eps)
    found = losses.naive_dice(logits, target, eps=eps)
    torch.testing.assert_close(found.double(), torch.from_numpy(wanted), **EXACT)
    assert found[2:].tolist() == pytest.approx([0, 0, 1 - eps / (40 + eps), 1 - eps / (40 + eps)], abs=1e-5)
    assert torch.equal(losses.naive_dice(logits, target), losses.naive_dice(logits, target, eps=1.0))


def test_naive_dice_is_not_for_soft_masks() -> None:
    """Why there are two: a sharper answer than the soft target costs it less than the target itself."""
    logits = torch.linspace(-3, 3, 40).unsqueeze(0)
    naive, soft = (
        [loss(logits * scale, logits.sigmoid()).item() for scale in (1, 4)]
        for loss in (losses.naive_dice, losses.soft_dice)
    )
    assert naive[1] < naive[0]
    assert soft[1] > soft[0]


@pytest.mark.parametrize("loss", [losses.mask_entropy, losses.naive_dice])
def test_mask_losses_are_per_mask_and_go_down(loss: object) -> None:
    """The gradient of one mask's number touches that mask alone, and pulls each pixel towards its truth."""
    torch.manual_seed(0)
    logits, target = torch.randn(3, 5, 7, requires_grad=True), (torch.rand(3, 5, 7) > 0.5).float()
    found = loss(logits, target)  # type: ignore[operator]
    assert found.shape == (3,)
    found[1].backward()
    assert not logits.grad[[0, 2]].any()
    assert ((logits.grad[1] < 0) == (target[1] > 0)).all()


def test_sampling_is_bilinear() -> None:
    """Against loops, on a map that is not square, with centres, edges, and places outside."""
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 9, dtype=torch.float64)
    corners = torch.tensor([[0, 0], [1, 1], [0.5 / 9, 0.5 / 5], [-0.05, 0.5], [0.5, 1.3], [1, 0.2]])
    places = torch.cat([corners.expand(2, -1, -1), torch.rand(2, 30, 2)], dim=1).double()
    wanted = [
        [between(cells[None], y * 5 - 0.5, x * 9 - 0.5)[0] for x, y in each.tolist()]
        for cells, each in zip(maps.numpy(), places, strict=True)
    ]
    found = points.sample(maps, places)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found[:, 2], maps[:, 0, 0])
    torch.testing.assert_close(points.sample(maps.float(), places.float()), found.float(), **EXACT)


def test_sampling_bool_and_bf16_maps() -> None:
    """Masks are 0 and 1, and half precision is read in float32."""
    torch.manual_seed(0)
    masks, places = torch.rand(3, 6, 6) > 0.5, torch.rand(3, 20, 2)
    found = points.sample(masks, places)
    torch.testing.assert_close(found, points.sample(masks.float(), places), rtol=0, atol=0)
    assert 0 < found.mean() < 1
    half = points.sample(masks.bfloat16(), places)
    torch.testing.assert_close(half, found, rtol=0, atol=0)


def test_sampling_sends_gradients_to_the_cells() -> None:
    """A place between four centres is a quarter of each."""
    maps = torch.randn(1, 4, 4, requires_grad=True)
    points.sample(maps, torch.tensor([[[0.5, 0.25]]])).sum().backward()
    wanted = torch.zeros(1, 4, 4)
    wanted[0, 0:2, 1:3] = 0.25
    torch.testing.assert_close(maps.grad, wanted)


def disc(side: int) -> torch.Tensor:
    """Logits [side, side] that are 0 on a circle, and fall by one a tenth of the side away from its middle."""
    middle = (torch.arange(side) + 0.5) / side - 0.5
    return 3 - 10 * (middle.square() + middle.square().unsqueeze(1)).sqrt()


def drawn(key: int, count: int) -> np.ndarray:
    """The uniform places that a key stands for, in 0..1."""
    whole = random.generator(key, "points").integers(-(2**15), 2**15, (count, 2), dtype=np.int16)
    return (whole.astype(np.float64) + 2**15 + 0.5) / 2**16


def test_points_are_chosen_as_pointrend_does() -> None:
    """Given the same draws, the very candidates that are nearest to 0 by loops, and the rest as drawn."""
    torch.manual_seed(0)
    logits = torch.randn(3, 6, 8)
    found = points.uncertain(logits, count=41, oversample=3, importance=0.75, keys=[7, 8, 9])
    assert found.shape == (3, 41, 2)
    for cells, key, places in zip(logits.double().numpy(), [7, 8, 9], found.double().numpy(), strict=True):
        candidates, rest = np.split(drawn(key, 123 + 11), [123])
        doubt = [abs(between(cells[None], y * 6 - 0.5, x * 8 - 0.5)[0]) for x, y in candidates]
        nearest = sorted(sorted(range(123), key=doubt.__getitem__)[:30])
        np.testing.assert_allclose(places, np.concatenate([candidates[nearest], rest]), atol=1e-7)


def test_points_depend_on_their_keys_alone() -> None:
    """The same again for the same key, whichever masks are beside it; others for another key."""
    logits = disc(16).expand(3, -1, -1)
    settings = {"count": 64, "oversample": 3.0, "importance": 0.75}
    first = points.uncertain(logits, keys=[1, 2, 1], **settings)
    assert torch.equal(first[0], first[2])
    assert not torch.isclose(first[0], first[1]).any(1).all()
    again = points.uncertain(logits[:2], keys=[2, 1], **settings)
    assert torch.equal(first[:2].flip(0), again)


def test_points_leave_the_global_generator_and_the_graph_alone() -> None:
    """torch draws on as if nothing had been, and places have no gradient."""
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    logits = disc(8).unsqueeze(0).requires_grad_()
    found = points.uncertain(logits, count=8, oversample=2, importance=0.5, keys=[1])
    assert torch.equal(torch.rand(4), wanted)
    assert not found.requires_grad


def test_points_lie_where_a_mask_is_in_doubt() -> None:
    """Three quarters on the circle, which holds a quarter of the candidates; the other quarter is uniform."""
    found = points.uncertain(disc(64).unsqueeze(0), count=8000, oversample=3, importance=0.75, keys=[5])[0]
    near = ((found - 0.5).norm(dim=1) - 0.3).abs()  # of the circle
    ring = 0.25 / (2 * math.pi * 0.3) / 2  # half the width of a ring that holds a quarter of the square
    assert near[:6000].max().item() == pytest.approx(ring, rel=0.05)
    assert (near < ring).float().mean().item() == pytest.approx(0.75 + 0.25 * 0.25, abs=0.02)
    rest = found[6000:]
    counts = torch.histogramdd(rest, [4, 4], range=[0.0, 1.0, 0.0, 1.0]).hist
    assert ((counts - 125).square() / 125).sum().item() < 37.7  # chi-squared of 15: one in a thousand beyond


def test_all_points_are_uniform_without_importance() -> None:
    """Each axis by itself and both together, against Kolmogorov's bound and a chi-squared of 63."""
    found = points.uncertain(disc(8).unsqueeze(0), count=6400, oversample=1, importance=0.0, keys=[11])[0]
    ideal = (torch.arange(6400) + 0.5) / 6400
    assert (found.sort(0).values - ideal.unsqueeze(1)).abs().max() < 1.95 / math.sqrt(6400)  # one in a thousand beyond
    counts = torch.histogramdd(found, [8, 8], range=[0.0, 1.0, 0.0, 1.0]).hist
    assert ((counts - 100).square() / 100).sum().item() < 103.4


def test_all_points_may_be_important() -> None:
    """Nothing is drawn anew, and without candidates to spare all of them are taken."""
    found = points.uncertain(disc(8).unsqueeze(0), count=50, oversample=1, importance=1.0, keys=[4])
    np.testing.assert_allclose(found[0].numpy(), drawn(4, 50), atol=1e-7)


def test_of_equally_doubtful_candidates_the_first_are_taken() -> None:
    """Nothing is left to the device: a mask without any opinion, whose candidates are all alike."""
    found = points.uncertain(torch.zeros(1, 8, 8), count=20, oversample=4, importance=0.5, keys=[6])
    np.testing.assert_allclose(found[0].numpy(), drawn(6, 90)[[*range(10), *range(80, 90)]], atol=1e-7)


def test_no_mask_has_no_points() -> None:
    """Empty, in the right shapes, and its losses are empty too."""
    none = torch.zeros(0, 8, 8)
    places = points.uncertain(none, count=20, oversample=3, importance=0.75, keys=[])
    assert places.shape == (0, 20, 2)
    found = points.sample(none, places)
    assert found.shape == (0, 20)
    assert losses.mask_entropy(found, found).shape == losses.naive_dice(found, found).shape == (0,)


def test_masks_that_are_no_numbers_have_points() -> None:
    """A run that has gone wrong ends with its own message about its loss."""
    found = points.uncertain(torch.full((1, 8, 8), torch.nan), count=20, oversample=3, importance=0.75, keys=[1])
    assert found.shape == (1, 20, 2)
    assert ((found > 0) & (found < 1)).all()


SEEN = torch.tensor([True, False, True, False])


def by_definition(branch: np.ndarray, clip: np.ndarray, *, covered: bool, alpha: float, beta: float) -> np.ndarray:
    """q^(1 - a) c^a of one region's logits, over its sum; the background is left out."""
    q, c = (np.exp(x) / np.exp(x).sum() for x in (branch, clip))
    mixed = []
    for number in range(len(q)):
        power = alpha if number == len(SEEN) or SEEN[number] else beta
        power = power if covered else 0.0
        mixed.append(q[number] ** (1 - power) * c[number] ** power)
    return np.array(mixed)[:-1] / np.sum(mixed)


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.9), (0.3, 0.0), (1.0, 0.5)])
def test_fusion_is_its_definition(alpha: float, beta: float) -> None:
    """In float64, of seen and unseen classes and the background, of regions with and without a mask."""
    torch.manual_seed(0)
    branch, clip = 5 * torch.randn(8, 5), 5 * torch.randn(8, 5)
    covered = torch.arange(8) % 3 > 0
    found = fuse(branch, clip, seen=SEEN, covered=covered, alpha=alpha, beta=beta)
    rows = zip(branch.double().numpy(), clip.double().numpy(), covered.tolist(), strict=True)
    wanted = np.stack([by_definition(q, c, covered=mask, alpha=alpha, beta=beta) for q, c, mask in rows])
    torch.testing.assert_close(found.double(), torch.from_numpy(wanted), **EXACT)


def test_fusion_of_an_empty_mask_is_the_branch() -> None:
    """Whatever CLIP says, if the mask covers none of its cells."""
    torch.manual_seed(0)
    branch, clip = torch.randn(3, 5), torch.randn(3, 5)
    found = fuse(branch, clip, seen=SEEN, covered=torch.tensor([False, True, False]), alpha=0.1, beta=0.9)
    alone = branch.softmax(1)[:, :-1].double()
    torch.testing.assert_close(found[[0, 2]], alone[[0, 2]], **EXACT)
    assert not torch.isclose(found[1], alone[1]).any()


@pytest.mark.parametrize(("share", "which"), [(0.0, 0), (1.0, 1)])
def test_fusion_of_one_opinion_is_that_opinion(share: float, which: int) -> None:
    """alpha = beta = 0 is the branch alone, 1 is CLIP alone."""
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 5)
    found = fuse(*logits, seen=SEEN, covered=torch.ones(6, dtype=torch.bool), alpha=share, beta=share)
    torch.testing.assert_close(found, logits[which].softmax(1)[:, :-1].double(), **EXACT)


def test_unseen_classes_are_clips_to_name() -> None:
    """The branch is for the seen class, CLIP for the unseen one: who has the last word is a matter of beta alone."""
    branch, clip = torch.tensor([[4.0, 0, 0, 0, 0]]), torch.tensor([[0.0, 3, 0, 0, 0]])
    covered = torch.ones(1, dtype=torch.bool)
    named = [
        fuse(branch, clip, seen=SEEN, covered=covered, alpha=0.1, beta=beta).argmax(1).item() for beta in (0.1, 1.0)
    ]
    assert named == [0, 1]


def test_the_background_takes_its_part_of_the_scores() -> None:
    """It counts as seen, and the likelier it is the less is left for all classes, whose ranks stay as they are."""
    branch = torch.tensor([[3.0, 2, 1, 0, -100], [3, 2, 1, 0, 5], [3, 2, 1, 0, 300]])
    found = fuse(branch, branch, seen=SEEN, covered=torch.ones(3, dtype=torch.bool), alpha=0.1, beta=0.9)
    assert found.sum(1)[0].item() == pytest.approx(1)
    assert found.sum(1)[1].item() == pytest.approx(1 - branch[1].softmax(0)[-1].item(), abs=1e-6)
    assert found.argsort(1, descending=True).tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.1, 0.9), (1.0, 1.0)])
def test_fusion_of_extreme_logits_is_finite(alpha: float, beta: float) -> None:
    """Up to 10,000 to either side: no 0 to the power of 0, and no logarithm of 0; the likeliest is certain."""
    branch = torch.tensor([[1e4, -1e4, 0, -1e4, -1e4], [-1e4, -1e4, -1e4, -1e4, 1e4], [-1e4, 1e4, 0, 1e4 - 1, -1e4]])
    found = fuse(branch, branch, seen=SEEN, covered=torch.ones(3, dtype=torch.bool), alpha=alpha, beta=beta)
    likely = 1 / (1 + math.exp(-1))
    wanted = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, likely, 0, 1 - likely]])
    torch.testing.assert_close(found.float(), wanted, **EXACT)
    other = fuse(branch, -branch, seen=SEEN, covered=torch.ones(3, dtype=torch.bool), alpha=alpha, beta=beta)
    assert other.isfinite().all()
    assert (other.sum(1) <= 1 + 1e-9).all()


def test_fusion_of_half_precision_is_exact() -> None:
    """Logits of bf16 are read as they are, and nothing more is rounded."""
    torch.manual_seed(0)
    branch, clip = (5 * torch.randn(2, 6, 5)).bfloat16()
    settings = {"seen": SEEN, "covered": torch.ones(6, dtype=torch.bool), "alpha": 0.1, "beta": 0.9}
    torch.testing.assert_close(fuse(branch, clip, **settings), fuse(branch.float(), clip.float(), **settings), **EXACT)


def test_a_mask_covers_cells_whose_centre_it_holds() -> None:
    """None is empty, all is covered; a mask at a cell's centre covers it, one between centres does not."""
    logits = torch.full((4, 32, 32), -5.0)
    logits[1] = 5
    logits[2, 10:14, 18:22] = 5  # around the centre (12, 20) of a cell 8 pixels wide
    logits[3, 14:18, 14:18] = 5  # around a corner of four cells
    assert covers(logits, 4, 4).tolist() == [False, True, True, False]
    assert covers(logits, 4, 2).tolist() == [False, True, False, False]
    assert covers(logits.bfloat16(), 32, 32).tolist() == [False, True, True, True]
    assert covers(logits[:0], 4, 4).shape == (0,)


def test_covering_is_the_published_interpolation() -> None:
    """Logits, not masks, are brought to the map's grid, and what is 0 there is not covered."""
    torch.manual_seed(0)
    logits = torch.randn(40, 8, 8) - 1.1
    wanted = [(F.interpolate(each[None, None], size=(3, 2), mode="bilinear") > 0).any().item() for each in logits]
    assert covers(logits, 3, 2).tolist() == wanted
    assert len(set(wanted)) == 2
    assert not covers(torch.zeros(1, 8, 8), 3, 2).any()
