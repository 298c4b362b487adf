"""The moving average of the weights, and weights taken out and put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from uvlm.errors import InputError
from uvlm.training.weights import Average, read_weights, write_weights


def toy() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[1].bias.requires_grad_(False)
    return model


def test_the_average_is_the_weighted_sum_of_all_weights_so_far():
    model = toy()
    average = Average(model, 0.75)
    history = [model[0].weight.detach().clone()]
    for step in (1, 2):
        with torch.no_grad():
            model[0].weight += step
        average(step, {})
        history.append(model[0].weight.detach().clone())
    first, second, third = history
    expected = 0.75**2 * first + 0.75 * 0.25 * second + 0.25 * third
    torch.testing.assert_close(average.values["0.weight"], expected)


def test_frozen_weights_have_no_average():
    assert set(Average(toy(), 0.5).values) == {"0.weight", "0.bias", "1.weight"}


def test_the_models_own_weights_return_bit_for_bit():
    model = toy()
    average = Average(model, 0.9)
    with torch.no_grad():
        model[0].weight.add_(1 / 3)
    before = model[0].weight.detach().clone()
    with average.applied():
        assert torch.equal(model[0].weight, average.values["0.weight"])
        assert not torch.equal(model[0].weight, before)
    assert torch.equal(model[0].weight, before)


def test_averages_of_another_model_are_refused():
    with pytest.raises(InputError, match="another model"):
        Average(toy(), 0.5).load({"0.weight": torch.zeros(2, 2)})


def test_weights_taken_out_and_put_back_are_the_same_and_stay_apart():
    model = toy().to(memory_format=torch.contiguous_format)
    names = tuple(name for name, _ in model.named_parameters())
    kept = read_weights(model, names)
    with torch.no_grad():
        model[0].weight.zero_()
    assert kept["0.weight"].abs().sum() > 0
    write_weights(model, kept)
    assert torch.equal(model[0].weight, kept["0.weight"])
