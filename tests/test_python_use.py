"""A merged model in the place of its parents: code written for open_clip and for segment_anything runs on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import Sam
from torch import Tensor
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.open_clip.origin import TINY
from vfmerge_adapters.promptable.predictor import Predictor
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.sam.geometry import VARIANTS, build
from vfmerge_adapters.text_aligned.use import PictureText
from vfmerge_adapters.transformers_clip import CLIP
from vfmerge_adapters.transformers_sam import TransformersSAM

import vfmerge
from vfmerge import weights
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.errors import InputError
from vfmerge.export import pictures
from vfmerge.model import MergedModel

TEXTS = ["a photo of a star.", "a red circle, seen from far away", "ring"]
BOX, POINTS, LABELS = np.array([8.0, 10.0, 40.0, 44.0]), np.array([[20.0, 30.0], [3.0, 4.0]]), np.array([1, 0])
SMALL_SAM = {"depth": 2, "width": 32, "heads": 2, "global_blocks": [1], "decoder_width": 16, "decoder_mlp": 32}
SMALL_SAM |= {"decoder_heads": 2}
LEAST_SAM = SMALL_SAM | {"depth": 1, "global_blocks": [0]}
SMALL_CLIP = {
    "model_type": "clip",
    "vision_config": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
    },
    "projection_dim": 20,
}


def merge(base: str, **adapters: AuxiliaryAdapter) -> MergedModel:
    """A merged model that was not trained: its parents' weights, and new heads."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MergedModel(adapters, base=base)
        model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> MergedModel:
    return merge("sam", sam=SAM(variant="tiny"), clip=OpenCLIP(model="tiny"))


@pytest.fixture(scope="module")
def original() -> tuple[Any, Any]:
    """The CLIP parent as open_clip itself loads it, and its preprocessing."""
    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{TINY}")
    return clip.eval(), preprocess


@pytest.fixture(scope="module")
def sam() -> Sam:
    """The SAM parent, as segment_anything has it."""
    made = build(VARIANTS["tiny"])
    for source in SAM(variant="tiny").sources:
        weights.fit(made, weights.read(source), source=str(source))
    return made


def images(preprocess: Any) -> Tensor:
    return torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures()])


def one_line(error: pytest.ExceptionInfo[InputError]) -> bool:
    return len(str(error.value).splitlines()) == 1


@torch.no_grad()
def test_a_parent_answers_as_open_clips_own_model(original: tuple[Any, Any]) -> None:
    """Images and tokens made by open_clip's own transform and tokenizer, or by the capability's, unit length or not."""
    adapter = OpenCLIP(model="tiny")
    clip, (theirs, preprocess) = adapter.capability(adapter.teacher()), original
    assert isinstance(clip, PictureText)
    tokens = open_clip.get_tokenizer(f"local-dir:{TINY}")(TEXTS)
    assert torch.equal(clip.tokenizer(TEXTS), tokens)
    assert torch.equal(images(clip.preprocess), images(preprocess))
    for normalize in (False, True):
        seen = theirs.encode_image(images(preprocess), normalize=normalize)
        torch.testing.assert_close(clip.encode_image(images(preprocess), normalize), seen, atol=1e-5, rtol=0)
        said = theirs.encode_text(tokens, normalize=normalize)
        torch.testing.assert_close(clip.encode_text(tokens, normalize), said, atol=1e-5, rtol=0)
    for ours, there in zip(clip(images(preprocess), tokens)[:2], theirs(images(preprocess), tokens)[:2], strict=True):
        torch.testing.assert_close(ours, there, atol=1e-5, rtol=0)
    assert clip(text=tokens)[0] is None
    assert clip(text=tokens)[2].item() == pytest.approx(100)


@torch.no_grad()
def test_a_merged_model_answers_both_ways_alike(model: MergedModel) -> None:
    """Pictures and texts give the unit embeddings of the images and tokens that are made of them."""
    seen, said, scale = model.clip(images(model.clip.preprocess), model.clip.tokenizer(TEXTS))
    torch.testing.assert_close(seen, model.clip.encode_image(pictures()), atol=1e-5, rtol=0)
    torch.testing.assert_close(said, model.clip.encode_text(TEXTS), atol=1e-5, rtol=0)
    assert (model.clip.encode_image(images(model.clip.preprocess)).norm(dim=1) - 1).abs().min() > 0.01
    of_images, of_texts = model.clip.get_logits(images(model.clip.preprocess), model.clip.tokenizer(TEXTS))
    torch.testing.assert_close(of_images, scale * seen @ said.T)
    assert torch.equal(of_texts, of_images.T)


def test_open_clips_zero_shot_classifier_takes_a_merged_model(model: MergedModel) -> None:
    """Its weights are the means of the merged model's own embeddings of the sentences."""
    classes, templates = ["star", "ring", "cross"], ["a photo of a {}.", "a small {}"]
    found = open_clip.build_zero_shot_classifier(model.clip, model.clip.tokenizer, classes, templates)
    said = model.clip.encode_text([each.format(name) for name in classes for each in templates])
    mean = torch.nn.functional.normalize(said.unflatten(0, (3, 2)).mean(1), dim=1)
    torch.testing.assert_close(found, mean.T, atol=1e-5, rtol=0)


def test_gradients_reach_the_image(model: MergedModel) -> None:
    """As in open_clip's model: what explains or attacks a CLIP needs them. Pictures are answered without."""
    image = images(model.clip.preprocess).requires_grad_()
    model.clip.encode_image(image).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert not model.clip.encode_image(pictures()).requires_grad


def test_a_bias_of_the_loss_comes_last() -> None:
    """A SigLIP of open_clip returns four things."""
    config = copy.deepcopy(OpenCLIP(model="tiny").config.model_dump(mode="json"))
    config["model_cfg"]["init_logit_bias"] = -10
    adapter = OpenCLIP(config=config, random=True)
    clip = adapter.capability(adapter.teacher())
    assert isinstance(clip, PictureText)
    assert clip(text=clip.tokenizer("ring"))[3].item() == -10
    logits, _ = clip.get_logits(images(clip.preprocess), clip.tokenizer("ring"))
    assert logits.max() <= 90


@torch.no_grad()
def test_a_clip_of_transformers_answers_as_open_clips_do() -> None:
    """The same interface, with its own preprocessing and words."""
    shown = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.2, 0.25, 0.3], "do_center_crop": True}
    adapter = CLIP(config=SMALL_CLIP, random=True, preprocessor=shown | {"size": 32, "crop_size": 32})
    clip = adapter.capability(adapter.teacher())
    assert isinstance(clip, PictureText)
    made = images(clip.preprocess)
    assert made.min() < -0.5
    seen, said, _ = clip(made, clip.tokenizer(TEXTS))
    torch.testing.assert_close(seen, clip.encode_image(pictures()), atol=1e-5, rtol=0)
    torch.testing.assert_close(said, clip.encode_text(TEXTS), atol=1e-5, rtol=0)


def test_a_size_that_the_trunk_does_not_take_is_one_line(model: MergedModel) -> None:
    """For images that somebody else's preprocessing made."""
    with pytest.raises(InputError, match="size: 30 x 30 is no multiple of the trunk's 8") as error:
        model.clip.encode_image(torch.zeros(1, 3, 30, 30))
    assert one_line(error)


def test_pictures_in_any_form(model: MergedModel, tmp_path: Path) -> None:
    """A file, Pillow's image, arrays and tensors, alone or in batches, are the same picture to each capability."""
    picture = pictures()[2]
    Image.fromarray(picture).save(tmp_path / "picture.png")
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    forms = [tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.fromarray(picture), picture, picture / 255]
    forms += [tensor, tensor / 255, tensor[None], picture[None], [picture], (picture,)]
    expected, cells = model.clip.encode_image([picture]), model.clip.encode_cells([picture])
    logits = model.sam.set_image(picture).predict(boxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]))[0]
    for form in forms:
        assert torch.equal(model.clip.encode_image(form), expected)
        assert torch.equal(model.clip.encode_cells(form), cells)
        image = model.sam.set_image(form)
        assert torch.equal(image.predict(boxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]))[0], logits)
    mixed = model.clip.encode_image([tmp_path / "picture.png", tensor])
    torch.testing.assert_close(mixed, expected.expand(2, -1), atol=1e-6, rtol=0)


def test_a_single_text_is_one_text(model: MergedModel) -> None:
    """And not its letters."""
    assert torch.equal(model.clip.encode_text("a star"), model.clip.encode_text(["a star"]))


def test_nothing_embeds_to_nothing(model: MergedModel) -> None:
    """No text and no image give no row, of the right width."""
    width = model.clip.encode_text("a star").shape[1]
    assert model.clip.encode_text([]).shape == (0, width)
    assert model.clip.encode_image(torch.zeros(0, 3, 64, 64)).shape == (0, width)


def test_images_that_are_not_rgb_are_refused(model: MergedModel) -> None:
    """One channel would else be taken for three alike ones."""
    with pytest.raises(InputError, match=r"images: have 1 channels; give RGB") as error:
        model.clip.encode_image(torch.zeros(1, 1, 64, 64))
    assert one_line(error)


def test_what_open_clips_models_are_told_is_done(model: MergedModel) -> None:
    """`to`, `eval`, `train` and `parameters`, on the trunk and the head."""
    mine = copy.deepcopy(model)
    clip = mine.clip.to(torch.float64)
    assert clip is mine.clip
    assert {each.dtype for each in clip.parameters()} == {torch.float64}
    torch.testing.assert_close(clip.encode_image(pictures()), model.clip.encode_image(pictures()), atol=1e-4, rtol=0)
    assert mine.trunk.patch_embed.proj.weight.dtype == torch.float64
    assert clip.train().network.training
    assert not clip.eval().network.training


PROMPTS: list[dict[str, Any]] = [
    {"box": BOX},
    {"point_coords": POINTS, "point_labels": LABELS},
    {"point_coords": POINTS, "point_labels": LABELS, "box": BOX},
]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("multimask_output", [True, False])
def test_predictors_answer_as_the_parents(
    model: MergedModel, sam: Sam, prompt: dict[str, Any], multimask_output: bool
) -> None:
    """segment_anything's predictor on the merged model, and the merged model as one, give the base's masks."""
    parent, rough = SamPredictor(sam), np.linspace(-8, 8, 48 * 48, dtype=np.float32).reshape(1, 48, 48)
    for picture in pictures():
        answers = []
        for predictor in (parent, SamPredictor(model.sam), model.sam):
            predictor.set_image(picture)
            first = predictor.predict(**prompt, multimask_output=multimask_output, return_logits=True)
            again = predictor.predict(**prompt, mask_input=rough, multimask_output=False, return_logits=True)
            answers.append([*first, *again, predictor.get_image_embedding().numpy()])
        for ours in answers[1:]:
            for mine, theirs in zip(ours, answers[0], strict=True):
                np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


def test_many_prompts_in_the_input_square(model: MergedModel, sam: Sam) -> None:
    """`predict_torch`, by the predictor's own transform, which the merged model has too."""
    picture = pictures()[0]
    frame = picture.shape[:2]
    boxes = torch.tensor([[8.0, 10.0, 40.0, 44.0], [1.0, 2.0, 80.0, 50.0]])
    points = torch.tensor([[[20.0, 30.0]], [[70.0, 9.0]]])
    answers = []
    for predictor in (SamPredictor(sam), model.sam):
        predictor.set_image(picture)
        placed = predictor.transform.apply_coords_torch(points, frame), torch.ones(2, 1)
        found = predictor.predict_torch(*placed, predictor.transform.apply_boxes_torch(boxes, frame))
        answers.append((*found, predictor.original_size, predictor.input_size))
    assert torch.equal(answers[0][0], answers[1][0])
    assert answers[0][0].dtype == torch.bool
    torch.testing.assert_close(answers[1][2], answers[0][2], atol=1e-4, rtol=0)
    assert answers[0][3:] == answers[1][3:]


def test_an_image_that_is_transformed_already(model: MergedModel, sam: Sam) -> None:
    """`set_torch_image`, as a `SamPredictor` takes it; of another size it is refused."""
    picture = pictures()[0]
    answers = []
    for predictor in (SamPredictor(sam), model.sam):
        small = torch.from_numpy(predictor.transform.apply_image(picture)).permute(2, 0, 1)[None]
        predictor.set_torch_image(small, picture.shape[:2])
        answers.append(predictor.predict(box=BOX, multimask_output=False, return_logits=True)[0])
        assert predictor.model.image_encoder.img_size == 96
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
    with pytest.raises(InputError, match=r"transformed_image: is 1x3x50x50; make it 1x3x\d+x\d+, as `transform` does"):
        model.sam.set_torch_image(torch.zeros(1, 3, 50, 50), picture.shape[:2])


def test_the_mask_generator_takes_a_merged_model(model: MergedModel, sam: Sam) -> None:
    """Everything in a picture, as the base finds it."""
    options = {"points_per_side": 6, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    theirs, ours = (SamAutomaticMaskGenerator(each, **options).generate(pictures()[0]) for each in (sam, model.sam))
    assert len(theirs) == len(ours) > 1
    for one, other in zip(theirs, ours, strict=True):
        assert np.array_equal(one["segmentation"], other["segmentation"])
        assert one["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-4)


def test_a_model_is_called_as_a_sam(model: MergedModel, sam: Sam) -> None:
    """A list of pictures in SAM's own form, each with its prompts."""
    square = torch.from_numpy(np.resize(pictures()[2], (96, 96, 3))).permute(2, 0, 1)
    asked = [{"image": square, "original_size": (50, 50), "boxes": torch.tensor([[8.0, 8.0, 70.0, 70.0]])}]
    theirs, ours = (each(asked, multimask_output=True)[0] for each in (sam, model.sam))
    torch.testing.assert_close(ours["low_res_logits"], theirs["low_res_logits"], atol=1e-4, rtol=0)
    assert torch.equal(ours["masks"], theirs["masks"])


@pytest.mark.parametrize("blocks", [0, 2])
def test_a_sams_head_on_another_trunk_drives_the_tools(blocks: int) -> None:
    """Its side is what the trunk takes, not its SAM's: masks are the capability's, by prompts in its own square."""
    vision = {"image_size": 32, "patch_size": 8 if blocks else 14, "width": 64, "layers": 2, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": vision | ({} if blocks else {"image_size": 28})}}
    config["model_cfg"]["text_cfg"] = text
    head = SAM(variant="tiny", random=True, geometry=SMALL_SAM, blocks=blocks)
    model = merge("clip", clip=OpenCLIP(config=config, random=True), sam=head)
    assert isinstance(model.sam, Predictor)
    assert model.sam.fixed_size == (96 if blocks else 98)
    predictor, picture = SamPredictor(model.sam), pictures()[0]
    predictor.set_image(picture)
    theirs = predictor.predict(box=BOX, return_logits=True)
    ours = model.sam.set_image(picture).predict(boxes=torch.from_numpy(BOX[None]).float(), multimask=True)
    np.testing.assert_allclose(theirs[0], ours[0][0].numpy(), atol=1e-4, rtol=0)
    assert SamAutomaticMaskGenerator(model.sam, points_per_side=2).generate(picture) is not None


def test_a_picture_is_remembered_until_it_is_reset(model: MergedModel) -> None:
    """`model.sam` is one object; the handle that `set_image` returns stays what it is."""
    first, second = pictures()[:2]
    handle = model.sam.set_image(first)
    before = model.sam.predict(box=BOX, return_logits=True)[0]
    assert before.shape == (3, *first.shape[:2])
    model.sam.set_image(second)
    boxes = torch.from_numpy(BOX[None]).float()
    assert np.array_equal(handle.predict(boxes=boxes, multimask=True)[0][0].numpy(), before)
    assert model.sam.predict(box=BOX)[0].shape == (3, *second.shape[:2])
    assert model.sam.is_image_set
    model.sam.reset_image()
    assert not model.sam.is_image_set
    with pytest.raises(InputError, match="no picture was set") as error:
        model.sam.predict(box=BOX)
    assert one_line(error)


def test_another_trunk_is_noticed(model: MergedModel) -> None:
    """What is remembered belongs to the modules that it was made of."""
    mine = copy.deepcopy(model)
    before = mine.sam
    assert mine.sam is before
    assert model.sam is not before
    mine.trunk = copy.deepcopy(mine.trunk)
    assert mine.sam is not before
    assert mine.sam.network.trunk is mine.trunk


def test_the_order_of_channels(model: MergedModel) -> None:
    """BGR, as OpenCV reads, gives the masks of the same picture in RGB; other words are refused."""
    picture = pictures()[0]
    model.sam.set_image(picture)
    expected = model.sam.predict(box=BOX, return_logits=True)[0]
    model.sam.set_image(picture[..., ::-1], image_format="BGR")
    assert np.array_equal(model.sam.predict(box=BOX, return_logits=True)[0], expected)
    with pytest.raises(InputError, match="image_format: 'HSV' is not RGB or BGR"):
        model.sam.set_image(picture, image_format="HSV")
    with pytest.raises(InputError, match="image: 2 pictures; give one at a time"):
        model.sam.set_image([picture, picture])


def test_a_sam_of_transformers_predicts_and_says_what_it_cannot() -> None:
    """Its decoder is another: segment_anything's tools get one line, and `predict` works."""
    vision = {"hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 64, "patch_size": 8, "window_size": 3, "global_attn_indexes": [1], "num_pos_feats": 8}
    prompts = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    parts = {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}
    adapter = TransformersSAM(config={"model_type": "sam"} | parts, random=True)
    found = adapter.capability(adapter.teacher())
    assert isinstance(found, Predictor)
    handle = found.set_image(pictures()[0])
    masks, scores, low = found.predict(box=BOX)
    assert (masks.dtype, masks.shape, scores.shape, low.shape) == (np.bool_, (3, 60, 88), (3,), (3, 32, 32))
    logits = handle.predict(boxes=torch.from_numpy(BOX[None]).float(), multimask=True)[0][0]
    assert np.array_equal(masks, (logits > 0).numpy())
    for tool in (SamPredictor, SamAutomaticMaskGenerator):
        with pytest.raises(InputError, match="none of segment_anything's") as error:
            tool(found)
        assert one_line(error)


def test_half_precision_is_near(model: MergedModel) -> None:
    """In bfloat16 inputs are made of the trunk's type, answers stay close, and masks come as numpy knows them."""
    half = copy.deepcopy(model).to("cpu", torch.bfloat16)
    assert half.clip.dtype == half.sam.dtype == torch.bfloat16
    assert (half.clip.encode_image(pictures()) * model.clip.encode_image(pictures())).sum(1).min() > 0.99
    assert (
        half.clip.encode_image(images(half.clip.preprocess), True) * model.clip.encode_image(pictures())
    ).sum() > 2.97
    assert (half.clip.encode_text(TEXTS) * model.clip.encode_text(TEXTS)).sum(1).min() > 0.99
    for each in (model, half):
        each.sam.set_image(pictures()[0])
    full, rough = (each.sam.predict(point_coords=POINTS, point_labels=LABELS)[0] for each in (model, half))
    assert (full == rough).mean() > 0.97
    rough = half.sam.predict(box=BOX, mask_input=half.sam.predict(box=BOX)[2][:1])[2]
    assert rough.dtype == np.float32


def base_sam() -> MergedModel:
    return merge("sam", sam=SAM(variant="tiny", random=True, geometry=LEAST_SAM), clip=OpenCLIP(model="tiny", layers=1))


def base_open_clip() -> MergedModel:
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}}
    sam = SAM(variant="tiny", random=True, geometry=LEAST_SAM, blocks=1)
    return merge("clip", clip=OpenCLIP(config=config, random=True), sam=sam)


def base_transformers_clip() -> MergedModel:
    sam = SAM(variant="tiny", random=True, geometry=LEAST_SAM, blocks=1)
    return merge("clip", clip=CLIP(config=SMALL_CLIP, random=True), sam=sam)


def in_place(model: MergedModel) -> MergedModel:
    model.trunk.compile(backend="eager")
    return model


def replaced(model: MergedModel) -> MergedModel:
    model.trunk = torch.compile(model.trunk, backend="eager")
    return model


def whole(model: MergedModel) -> Any:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("compiled", [in_place, replaced, whole])
@pytest.mark.parametrize("made", [base_sam, base_open_clip, base_transformers_clip])
def test_a_model_can_be_compiled(
    made: Callable[[], MergedModel], compiled: Callable[[MergedModel], Any], tmp_path: Path
) -> None:
    """In torch's own ways, whatever the base; the back end that only traces stands for the others, which take minutes.

    What is saved then is the model.
    """
    plain = made()
    model, picture = compiled(copy.deepcopy(plain)), pictures()[0]
    expected = plain.clip.encode_image(pictures())
    torch.testing.assert_close(model.clip.encode_image(pictures()), expected, atol=1e-5, rtol=0)
    cells = plain.clip.encode_cells(picture)
    torch.testing.assert_close(model.clip.encode_cells(picture), cells, atol=1e-5, rtol=0)
    for each in (plain, model):
        each.sam.set_image(picture)
    masks, mine = (each.sam.predict(box=BOX, return_logits=True)[0] for each in (plain, model))
    np.testing.assert_allclose(mine, masks, atol=1e-4, rtol=0)
    found = model.segment(picture, ["star", "ring"], background=None)
    assert np.array_equal(found.labels, plain.segment(picture, ["star", "ring"], background=None).labels)
    clip = "transformers_clip" if made is base_transformers_clip else "open_clip"
    model.save(tmp_path / "merged", names={"sam": "sam", "clip": clip})
    loaded = vfmerge.load(tmp_path / "merged").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in plain.state_dict().items())


def test_a_compiled_trunk_is_what_runs() -> None:
    """For embeddings and masks alike: its back end is asked once for each size, and not for what it has seen."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = base_open_clip()
    model.trunk = torch.compile(model.trunk, backend=backend, dynamic=False)
    model.clip.encode_image(pictures())
    once = len(graphs)
    assert once > 0
    model.clip.encode_image(pictures())
    assert len(graphs) == once
    model.segment(pictures()[0], ["star", "ring"])
    assert len(graphs) > once
