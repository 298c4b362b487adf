"""Volumes and reports to unit vectors of one space, by the contrastive part of a bundle.

Shapes: z y x voxels, S slices with F numbers each, T tokens, W numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uvlm.errors import BundleError, InputError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.slices import cut_slices
from uvlm.models.bundle import Bundle, load_bundle, read_bundle_info
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.vit import SlicedVolume

__all__ = ["ContrastiveEmbedder", "Embedder", "TextEncoder", "embedder", "load_embedder"]

PARTS = ("contrastive_2e3", "contrastive")
"""That embed, the one to take first."""

SLICES = "slices"

Array = NDArray[np.float32]

Vector = Array
"""(W,) of length 1."""


class Embedder(Protocol):
    """What an index is made with."""

    fingerprint: str
    """Of the part and its bundle: vectors of another one are of another space."""

    spec: PreprocessSpec
    """How volumes are prepared."""

    @property
    def gated(self) -> bool:
        """Whether a volume alone is not enough."""

    def slice_features(self, hu: NDArray[np.int16]) -> Array:
        """(S, F) of a prepared volume (z, y, x) in HU."""

    def embed_volume(self, array: Array, slices: Array | None = None) -> Vector:
        """Of a prepared volume (z, y, x), with the features (S, F) of its slices if gated."""

    def embed_text(self, text: str) -> Vector:
        """Of a report, or of words that describe a study."""


class TextEncoder(Protocol):
    """Text to token ids, as `ReportTokens` does."""

    def encode(self, report: str) -> list[int]: ...


class ContrastiveEmbedder:
    """A `ContrastiveModel` with what it needs to read studies and words.

    Args:
        tokens: of the text tower; None: only volumes can be embedded
        slice_encoder: of the slices that gate the encoder; None: their features must be given
        name: of the bundle, for messages
    """

    def __init__(
        self,
        model: ContrastiveModel,
        spec: PreprocessSpec,
        tokens: TextEncoder | None,
        fingerprint: str,
        *,
        slice_encoder: SliceEncoder | None = None,
        device: torch.device | str = "cpu",
        name: str = "the bundle",
    ) -> None:
        self.device, self.name = torch.device(device), name
        self.model = model.to(self.device).eval()
        self.slice_encoder = slice_encoder and slice_encoder.to(self.device).eval()
        self.spec, self.tokens, self.fingerprint = spec, tokens, fingerprint

    @property
    def gated(self) -> bool:
        return bool(getattr(self.model.config.encoder, "gated", False))

    @torch.inference_mode()
    def slice_features(self, hu: NDArray[np.int16]) -> Array:
        """
        Raises:
            BundleError: the bundle does not hold the 2D encoder.
        """
        if self.slice_encoder is None:
            raise BundleError.about(
                self.name,
                "its encoder looks at 2D features of slices, and the 2D encoder is not in it",
                "Give the bank of `uvlm slices` with --slices, or train with --slice-encoder.",
            )
        config = self.slice_encoder.config
        cut = cut_slices(hu, slices=config.slices, size=config.size, window=config.window)
        features_1SF = self.slice_encoder(torch.from_numpy(cut)[None].to(self.device))
        # As in training, where a bank holds them in half precision.
        features: Array = features_1SF[0].half().float().cpu().numpy()
        return features

    @torch.inference_mode()
    def embed_volume(self, array: Array, slices: Array | None = None) -> Vector:
        """
        Raises:
            InputError: the encoder is gated and there are no slices, or they do not fit it.
        """
        volume = self._tensor(array)[None, None]
        x: Tensor | SlicedVolume = volume
        if slices is not None and self.gated:
            x = SlicedVolume(volume, self._tensor(slices)[None])
        return _vector(self.model.embed_image(x))

    @torch.inference_mode()
    def embed_text(self, text: str) -> Vector:
        """
        Raises:
            InputError: the text is empty.
            BundleError: the bundle has no vocabulary for it.
        """
        if not text.strip():
            raise InputError("the text to search by is empty. Describe what to find.")
        if self.tokens is None:
            raise BundleError.about(
                self.name, "it has no vocabulary for texts", "Copy it whole from where it was made."
            )
        tokens_1T = torch.tensor([self.tokens.encode(text)], device=self.device)
        mask_1T = torch.ones_like(tokens_1T, dtype=torch.bool)
        return _vector(self.model.embed_text(tokens_1T, mask_1T))

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)


def _vector(rows_1W: Tensor) -> Vector:
    vector: Vector = rows_1W[0].float().cpu().numpy()
    return vector


def _part_of(path: Path, parts: tuple[str, ...], named: str | None = None) -> str:
    """The part that embeds, stage 2 before stage 1 unless one is named.

    Raises:
        BundleError: there is none.
    """
    found = next((part for part in PARTS if part in parts and named in (None, part)), None)
    if found is None:
        raise BundleError.about(
            path,
            f"the bundle has no {named or PARTS[-1]} part; it holds {', '.join(parts)}",
            "Give one of `uvlm train hsenet_clip` or `uvlm train hsenet_2e3`.",
        )
    return found


def embedder(
    bundle: Bundle, device: torch.device | str = "cpu", *, part: str | None = None
) -> ContrastiveEmbedder:
    """The contrastive part of a loaded bundle, ready to embed.

    Args:
        part: "contrastive" or "contrastive_2e3"; None: the latter if the bundle has it

    Raises:
        BundleError: the bundle has none.
    """
    part = _part_of(bundle.path, tuple(bundle.parts), part)
    model, slice_encoder = bundle.modules[part], bundle.modules.get(SLICES)
    assert isinstance(model, ContrastiveModel)
    assert slice_encoder is None or isinstance(slice_encoder, SliceEncoder)
    return ContrastiveEmbedder(
        model,
        bundle.parts[part].our_spec,
        bundle.text_tokens,
        f"{part}/{bundle.fingerprint}",
        slice_encoder=slice_encoder,
        device=device,
        name=str(bundle.path),
    )


def load_embedder(
    folder: Path, device: torch.device | str = "cpu", *, part: str | None = None
) -> ContrastiveEmbedder:
    """Only what embeds of a bundle; other parts ask for neither memory nor a language model.

    Args:
        part: as of `embedder`

    Raises:
        BundleError: the bundle has no such part, or a file of it is missing or altered.
    """
    info = read_bundle_info(folder)
    part = _part_of(folder, tuple(info.parts), part)
    bundle = load_bundle(folder, task=part)
    if SLICES in info.parts and SLICES not in bundle.modules:
        other = load_bundle(folder, task=SLICES)
        modules = {**bundle.modules, SLICES: other.modules[SLICES]}
        bundle = replace(bundle, modules=modules)
    return embedder(bundle, device, part=part)
