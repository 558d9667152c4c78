"""ConvNeXt: the size of the paper's model, no batch norm, samples that do not see each other, any layout."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from audiorep.encoders.convnext import Block, ChannelNorm, ConvNeXt
from audiorep.errors import AudiorepError
from audiorep.types import generator


def encoder(name: str) -> ConvNeXt:
    torch.manual_seed(0)
    return instantiate(OmegaConf.load(f"configs/encoder/{name}.yaml")).eval()


def test_tiny_has_the_parameters_of_the_paper_less_two_input_channels_and_the_classifier():
    assert sum(p.numel() for p in encoder("convnext_tiny").parameters()) == 28_589_128 - 2 * 96 * 16 - 769_000


def test_mini_costs_what_the_small_cnn_does():
    with FlopCounterMode(display=False) as counter:
        encoder("convnext_mini")(torch.randn(1, 1, 64, 96))
    assert counter.get_total_flops() < 50e6


@pytest.mark.parametrize("name", ["convnext_mini", "convnext_tiny"])
def test_no_sample_sees_its_neighbours(name):
    model = encoder(name).train()
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    x = torch.randn(3, 1, 64, 96, generator=generator(0))
    torch.testing.assert_close(model(x).pooled[:1], model(x[:1]).pooled, rtol=1e-4, atol=1e-5)


def test_a_block_is_the_formula():
    torch.manual_seed(0)
    block = Block(6, 0.3).double()
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    weight = block.depthwise.weight[:, 0]
    padded = nn.functional.pad(x, (3, 3, 3, 3))
    y = torch.empty_like(x)
    for row in range(9):
        for column in range(8):
            part = (padded[:, :, row : row + 7, column : column + 7] * weight).sum((2, 3)) + block.depthwise.bias
            part = (part - part.mean(1, keepdim=True)) / (part.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
            first, _, last = block.mlp
            hidden = part @ first.weight.T + first.bias
            hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
            y[:, :, row, column] = x[:, :, row, column] + 0.3 * (hidden @ last.weight.T + last.bias)
    torch.testing.assert_close(block(x), y)


def test_channels_last_and_bfloat16_give_the_same():
    model, x = encoder("convnext_mini"), torch.randn(2, 1, 64, 96, generator=generator(0))
    wanted = model(x).pooled.detach()
    model.to(memory_format=torch.channels_last)
    inside = []
    model.body[3].register_forward_hook(lambda module, args, out: inside.append(out))
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)).pooled, wanted, rtol=1e-4, atol=1e-5)
    assert inside[0].is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x).pooled.detach().float()
    assert float((rough - wanted).norm() / wanted.norm()) < 0.05


def test_tokens_are_the_last_map_of_the_padded_input():
    model = encoder("convnext_mini")
    assert model(torch.randn(1, 1, 5, 3)).tokens.shape == (1, 1, model.dim)
    assert model(torch.randn(1, 1, 65, 96)).tokens.shape == (1, 9, model.dim)
    x = torch.randn(1, 4, 3, 2, generator=generator(0))
    torch.testing.assert_close(ChannelNorm(4)(x)[0, :, 1, 1], nn.LayerNorm(4)(x[0, :, 1, 1]))


def test_stages_of_different_number_are_refused():
    with pytest.raises(AudiorepError, match=r"encoder\.depths=\[1, 1\] and encoder\.dims=\[8\]"):
        ConvNeXt((1, 1), (8,))
