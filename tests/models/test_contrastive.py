"""Embeddings of images and reports, and the temperature between them."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from tests.models.tiny_contrastive import GATED, UNET, VIT, batch, config, model
from uvlm.errors import InputError
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import TextTowerConfig
from uvlm.models.vision import vision_input


@pytest.mark.parametrize("encoder", [VIT, GATED, UNET], ids=["plain", "gated", "unet"])
def test_embeddings_have_length_one_and_every_weight_learns(encoder):
    network, given = model(config(encoder)), batch(3, slices=encoder is GATED)
    image = network.embed_image(vision_input(given))
    text = network.embed_text(given["text"], given["text_mask"])
    assert image.shape == text.shape == (3, 6)
    torch.testing.assert_close(image.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(3))
    (network.logit_scale() * (image @ text.T)[0].sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("encoder", [VIT, UNET], ids=["plain", "unet"])
def test_slices_are_ignored_without_a_gate(encoder):
    network, given = model(config(encoder)), batch(3, slices=True)
    with_slices = network.embed_image(vision_input(given))
    torch.testing.assert_close(network.embed_image(given["image"]), with_slices)


def test_a_gate_without_slices_is_an_error():
    with pytest.raises(InputError, match="gated by slices and got a volume alone"):
        model(config(GATED)).embed_image(batch(2)["image"])


def test_a_u_net_is_described_by_the_mean_of_its_deepest_stage():
    network, given = model(config(UNET)), batch(2)
    deepest = network.encoder(given["image"])[-1].mean((2, 3, 4))
    expected = torch.nn.functional.normalize(network.image_projection(deepest), dim=-1)
    torch.testing.assert_close(network.embed_image(given["image"]), expected)


def test_embeddings_are_in_32_bits_inside_mixed_precision():
    network, given = model(config()), batch(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert network.embed_image(given["image"]).dtype == torch.float32
        assert network.embed_text(given["text"], given["text_mask"]).dtype == torch.float32


def test_the_temperature_starts_at_7_hundredths():
    assert model(config()).logit_scale().item() == pytest.approx(1 / 0.07, rel=1e-6)


def test_the_authors_temperature_is_the_number_itself():
    network = model(config(temperature="authors"))
    assert network.logit_scale().item() == pytest.approx(log(1 / 0.07))
    network.scale.data.fill_(200.0)
    network.limit_scale()
    assert network.logit_scale().item() == 200


def test_the_temperature_stops_at_100_and_can_return():
    network = model(config())
    network.scale.data.fill_(9.0)
    assert network.logit_scale().item() == pytest.approx(100, rel=1e-6)
    network.limit_scale()
    network.logit_scale().backward()
    assert network.scale.grad is not None
    assert network.scale.grad.item() == pytest.approx(exp(network.scale.item()))


def test_the_paper_s_stage_1_has_its_size():
    settings = ContrastiveConfig(text=TextTowerConfig(vocab_size=30522))
    with torch.device("meta"):
        network = ContrastiveModel(settings)
    projections = 2 * (768 * 768 + 768)
    assert sum(p.numel() for p in network.encoder.parameters()) == 87_389_184
    total = sum(p.numel() for p in network.parameters())
    assert total == 87_389_184 + 108_891_648 + projections + 1
