"""Exports for segment_anything: its own registry, predictor and mask generator on the written state dict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from vfmerge_adapters.exports import sam_state
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.sam.geometry import VARIANTS

from vfmerge import export
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.features.settings import Distill
from vfmerge.model import MergedModel, Network


@pytest.fixture(scope="module")
def model() -> MergedModel:
    """The shipped SAM with a CLIP's new head: its masks mean something."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny", layers=1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        merged = MergedModel(adapters, base="sam")
        merged.start({name: adapter.teacher() for name, adapter in adapters.items()})
    return merged.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[".pth", ".safetensors"])
def file(request: pytest.FixtureRequest, model: MergedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, exported."""
    folder = tmp_path_factory.mktemp("sam")
    model.save(folder / "merged", names={"sam": "sam", "clip": "open_clip"}, texts={})
    export.export(folder, kind="sam", out=folder / f"sam{request.param}")
    return folder / f"sam{request.param}"


def picture() -> np.ndarray:
    """A picture of the world that the shipped SAM was taught, 80 x 112 pixels."""
    return Shapes(layout="several", count=1, size=112).read(0).image[:80]


def test_the_predictor_gives_the_models_masks(file: Path, model: MergedModel) -> None:
    """Logits of boxes agree to 1e-4, on a picture that was not asked about in the proof; masks are no blanks."""
    predictor = SamPredictor(sam_state.load(file, VARIANTS["tiny"]))
    predictor.set_image(picture())
    image = model.sam.set_image(picture())
    for box in ([4, 4, 60, 60], [30, 10, 100, 70]):
        theirs, scores, _ = predictor.predict(box=np.array(box), multimask_output=False, return_logits=True)
        ours, ious = image.predict(boxes=torch.tensor([box]).float())
        assert np.abs(theirs - ours[0].numpy()).max() <= 1e-4
        assert np.abs(scores - ious[0].numpy()).max() <= 1e-4
        assert 0.01 < (theirs > 0).mean() < 0.99


def test_the_mask_generator_gives_the_models_masks(file: Path, model: MergedModel) -> None:
    """Every mask that segment_anything's generator keeps is one of the model's own for that point."""
    sam = sam_state.load(file, VARIANTS["tiny"])
    generator = SamAutomaticMaskGenerator(
        sam, points_per_side=4, pred_iou_thresh=0.2, stability_score_thresh=0.2, box_nms_thresh=0.9
    )
    found = generator.generate(picture())
    assert len(found) >= 3
    image = model.sam.set_image(picture())
    for each in found:
        points = torch.tensor([each["point_coords"]]).float()
        ours, _ = image.predict(points=points, labels=torch.ones(1, 1, dtype=torch.long), multimask=True)
        assert any(np.array_equal(each["segmentation"], mask > 0) for mask in ours[0].numpy())


def test_the_registry_loads_a_vit_b(tmp_path: Path) -> None:
    """Of Meta's own shape, the file is read by `sam_model_registry`, strictly, with every tensor in its place."""
    adapter = SAM(variant="vit_b", random=True)
    with torch.device("meta"):
        network = Network(adapter.trunk(), adapter.own_head())
    network.to_empty(device="cpu")
    for number, tensor in enumerate(network.state_dict().values()):
        tensor.fill_(number)
    geometry, tensors = sam_state.geometry_of(network), sam_state.gather(network)
    assert sam_state.variant_of(geometry) == "vit_b"
    torch.save(tensors, tmp_path / "sam.pth")
    with torch.random.fork_rng():
        sam = sam_model_registry["vit_b"](checkpoint=str(tmp_path / "sam.pth"))
    loaded = sam.state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("variant", ["vit_b", "vit_l", "vit_h", "tiny"])
def test_shapes_are_read_off(variant: str) -> None:
    """All numbers of a shape are found in its modules; those of Meta have a name in the registry."""
    adapter = SAM(variant=variant, random=True)  # type: ignore[arg-type]
    with torch.device("meta"):
        geometry = sam_state.geometry_of(Network(adapter.trunk(), adapter.own_head()))
    assert geometry == VARIANTS[variant]
    assert sam_state.variant_of(geometry) == (None if variant == "tiny" else variant)


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ("clip", {}, "its trunk is no SAM's"),
        ("large", {}, "its head is made for 96 pixels and its trunk for 128, and Sam has one size"),
        ("small", {"learn": "features", "distill": {"layers": 1}}, "layers stand between trunk and neck"),
    ],
)
def test_no_such_sam(base: str, options: dict[str, object], message: str, tmp_path: Path) -> None:
    """What segment_anything has no model for is refused in one line that says why."""
    others = {
        "clip": OpenCLIP(model="tiny"),
        "large": SAM(variant="tiny", random=True, geometry={"image_size": 128}),
        "small": SAM(variant="tiny", random=True, geometry={"depth": 2, "global_blocks": [1]}),
    }
    if "distill" in options:
        options |= {"distill": Distill(summary="none", cells="mse", layers=1)}
    sam = SAM(variant="tiny", random=True, **options)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        merged = MergedModel({base: others[base], "sam": sam}, base=base)
    name = "open_clip" if base == "clip" else "sam"
    merged.save(tmp_path / "merged", names={base: name, "sam": "sam"}, texts={})
    with pytest.raises(InputError, match=f"^--to sam: sam: {message}") as raised:
        export.export(tmp_path, kind="sam", out=tmp_path / "sam.pth", task="sam")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "sam.pth").exists()
