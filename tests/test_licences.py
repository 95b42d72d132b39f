"""Licences of published weights, as the adapters know them: no restriction is lost on the way to the card."""

from __future__ import annotations

import open_clip
import pytest
import timm
from timm.models import get_pretrained_cfg
from vfmerge_adapters.open_clip import OpenCLIP, tags
from vfmerge_adapters.timm import Timm

from vfmerge import licence, spdx

PUBLISHED = [(model, tag) for model, tag in open_clip.list_pretrained()]
BY_TIMM = {
    config.hf_hub_id: config.license or spdx.UNKNOWN
    for config in (get_pretrained_cfg(name) for name in timm.list_models(pretrained=True))
    if config is not None and config.hf_hub_id
}


def test_a_tag_of_open_clip_is_no_freer_than_timm_says() -> None:
    """Where both publish the same tower, by its repository on the hub."""
    shared = 0
    for model, tag in PUBLISHED:
        repository = "/".join(open_clip.get_pretrained_cfg(model, tag)["hf_hub"].split("/")[:2])
        if repository in BY_TIMM:
            shared += 1
            assert spdx.use(tags.licence(model, tag) or spdx.UNKNOWN) == spdx.use(BY_TIMM[repository]), (model, tag)
    assert shared > 50


@pytest.mark.parametrize("word", ["dfn", "MobileCLIP", "metaclip", "nllb", "worldwide"])
def test_families_for_research_alone_are_known(word: str) -> None:
    """Apple's, Meta's and NLLB's CLIPs: none of their tags may be sold, whichever it is."""
    family = [(model, tag) for model, tag in PUBLISHED if word in model or word in tag]
    assert family
    for model, tag in family:
        assert spdx.use(tags.licence(model, tag) or spdx.UNKNOWN) == "non-commercial", (model, tag)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "ViT-H-14-378", "pretrained": "dfn5b"}, "apple-amlr"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, "MIT"),
        ({"model": "ViT-L-14", "pretrained": "datacomp_xl_s13b_b90k"}, "MIT"),
        ({"model": "ViT-B-16-SigLIP2", "pretrained": "webli"}, "Apache-2.0"),
        ({"model": "ViT-B-16-SigLIP2", "pretrained": "webli", "licence": "mine"}, "mine"),
        ({"model": "ViT-B-32", "random": True}, "unknown"),
    ],
)
def test_a_clip_has_the_licence_of_its_tag(options: dict[str, object], told: str) -> None:
    """Unless the recipe says another; of other weights nothing is known."""
    assert OpenCLIP(**options).licence == told


@pytest.mark.parametrize(
    ("model", "told", "use"),
    [
        ("vit_base_patch16_clip_224.dfn2b", "apple-amlr", "non-commercial"),  # timm 1.0 has what held before
        ("fastvit_mci0.apple_mclip", "apple-amlr", "non-commercial"),
        ("vit_base_patch16_224.mae", "CC-BY-NC-4.0", "non-commercial"),
        ("regnety_320.seer", "seer-license", "non-commercial"),
        ("convnext_tiny.eupe_lvd1689m", "fair-noncommercial-research-license", "non-commercial"),
        ("vit_base_patch16_dinov3.lvd1689m", "dinov3-license", "unknown"),
        ("vit_base_patch14_dinov2.lvd142m", "Apache-2.0", "any"),
    ],
)
def test_a_model_of_timm_has_the_licence_of_its_tag(model: str, told: str, use: str) -> None:
    """Whose terms are its own, and unknown here, is told to be looked up."""
    name, _, tag = model.partition(".")
    found = Timm(model=name, pretrained=tag).licence
    assert (found, spdx.use(found)) == (told, use)


def test_no_word_of_timm_is_taken_for_free_by_mistake() -> None:
    """All licences that it names are open ones by their SPDX names, barred, or told to be looked up."""
    free = {name for name in set(BY_TIMM.values()) if spdx.use(name) == "any"}
    assert free <= {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "bsd-2-clause"}
    for name in set(BY_TIMM.values()) - free:
        assert "hold together" not in licence.inherit({"a": "MIT", "b": name}).verdict
