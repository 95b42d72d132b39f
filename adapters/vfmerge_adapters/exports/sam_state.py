"""A merged model's trunk and one of its heads as the state dict of a `segment_anything` Sam, and the way back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from segment_anything import sam_model_registry
from torch import Tensor

from vfmerge import weights

from ..sam.approach import Approach
from ..sam.geometry import VARIANTS, Geometry, build
from ..sam.network import Head, Trunk

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from vfmerge.model import Network

_HEAD = ("prompt_encoder.", "mask_decoder.")  # of our names; the neck is the image encoder's


def refusal(network: Network) -> str | None:
    """Why there is no Sam like this network, or none. One line."""
    trunk, head = network.trunk, network.head
    if not isinstance(trunk, Trunk):
        return "its trunk is no SAM's, and segment_anything has no other; make SAM the base, or export to onnx"
    if not isinstance(head, Head):
        return "its head is none of segment_anything's; export to onnx"
    if not isinstance(head.approach, Approach) or list(head.approach.parameters()):
        return "layers stand between trunk and neck, which segment_anything has not; export to onnx"
    seen, made = _image_size(trunk), head.prompt_encoder.input_image_size[0]
    if seen != made or trunk.pos_embed.shape[1] != head.prompt_encoder.image_embedding_size[0]:
        return f"its head is made for {made} pixels and its trunk for {seen}, and Sam has one size; export to onnx"
    return None


def gather(network: Network) -> dict[str, Tensor]:
    """All tensors of a Sam by `segment_anything`'s names."""
    tensors = {f"image_encoder.{name}": tensor for name, tensor in network.trunk.state_dict().items()}
    for name, tensor in network.head.state_dict().items():
        if name.startswith("neck."):
            tensors[f"image_encoder.{name}"] = tensor
        elif name.startswith(_HEAD):  # a feature head's scale stays behind
            tensors[name] = tensor
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def geometry_of(network: Network) -> Geometry:
    """The numbers of the network that `refusal` has none for."""
    trunk, head = network.trunk, network.head
    assert isinstance(trunk, Trunk)
    assert isinstance(head, Head)
    windows = [block.window_size for block in trunk.blocks]
    decoder = head.mask_decoder.transformer
    return Geometry(
        image_size=_image_size(trunk),
        patch_size=trunk.patch_embed.proj.stride[0],
        width=trunk.patch_embed.proj.out_channels,
        depth=len(windows),
        heads=trunk.blocks[0].attn.num_heads,
        global_blocks=tuple(number for number, window in enumerate(windows) if window == 0),
        window=max(windows),
        decoder_width=decoder.embedding_dim,
        decoder_mlp=decoder.mlp_dim,
        decoder_heads=decoder.num_heads,
        mask_channels=head.prompt_encoder.mask_downscaling[3].out_channels,
    )


def variant_of(geometry: Geometry) -> str | None:
    """The name of that shape in `segment_anything`'s registry, or none."""
    like = dataclasses.replace(geometry, window=geometry.window or Geometry.window)
    return next((name for name, each in VARIANTS.items() if each == like and name in sam_model_registry), None)


def load(path: str | Path, geometry: Geometry) -> Sam:
    """A Sam of that shape with a file's tensors, strictly: by `segment_anything`'s registry where it has the shape.

    path: .pth or .safetensors.
    """
    path, variant = Path(path), variant_of(geometry)
    with torch.random.fork_rng(devices=[]):  # shapes are made with random weights
        if variant is not None and path.suffix == ".pth":
            return sam_model_registry[variant](checkpoint=str(path))
        sam = build(geometry) if variant is None else sam_model_registry[variant]()
    sam.load_state_dict(weights.read(path), strict=True)
    return sam.eval()


def _image_size(trunk: Trunk) -> int:
    """Side in pixels that the position embedding is for."""
    side: int = trunk.pos_embed.shape[1] * trunk.patch_embed.proj.stride[0]
    return side
