"""Every encoder config: any length, gradients everywhere; ViT's keep and mask do what they say."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from audiorep.composing import compose
from audiorep.encoders.vit import Vit, attend, positions, take
from audiorep.model import ALLOWED
from audiorep.types import generator

NAMES = sorted({path.stem for path in Path("configs/encoder").glob("*.yaml")})
SHAPES = {"mel": ((64, 96), (64, 50), (40, 131)), "waveform": ((1, 8000), (1, 4001), (1, 100))}


def small(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return instantiate(config(name).encoder).eval()


def config(name: str) -> DictConfig:
    return compose("pretrain", ["corpus=x", "out=x", f"encoder={name}"])


@pytest.mark.parametrize("name", NAMES)
def test_takes_any_length_and_number_of_bands(name):
    encoder = small(name)
    for bands, frames in SHAPES[config(name).chosen.frontend]:
        out = encoder(torch.randn(2, 1, bands, frames))
        assert out.pooled.shape == (2, encoder.dim)
        assert out.tokens.shape[::2] == (2, out.tokens.shape[2]) and out.tokens.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_may_name_it(name):
    assert config(name).encoder._target_ in ALLOWED, "put the class on ALLOWED in audiorep/model.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    encoder = small(name).train()
    x = torch.randn(2, 1, *SHAPES[config(name).chosen.frontend][0])
    if encoder.patch is None:
        out = encoder(x)
    else:
        out = encoder(x, mask=torch.rand(2, encoder(x).tokens.shape[1]) < 0.5)
    (out.pooled.square().sum() + out.tokens.square().sum()).backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without or all(name.endswith(("qkv.bias", "k_proj.bias")) for name in without)


def test_the_default_encoder_costs_under_50_mflop_a_view():
    encoder = small("small_cnn")
    with FlopCounterMode(display=False) as counter:
        encoder(torch.randn(1, 1, 64, 96))
    assert counter.get_total_flops() < 50e6


def test_resnets_have_the_parameters_of_the_paper_less_two_input_channels_and_the_classifier():
    wanted = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032}
    for name, count in wanted.items():
        encoder = small(name)
        assert sum(p.numel() for p in encoder.parameters()) == count - 2 * 64 * 49


def test_keep_encodes_just_those_tokens():
    encoder = Vit(dim=48, depth=2, heads=3, patch=(8, 8)).eval()
    x = torch.randn(2, 1, 32, 40)
    keep = torch.tensor([[0, 3, 7], [2, 9, 11]])
    kept = encoder(x, keep=keep)
    assert kept.tokens.shape == (2, 3, 48)
    changed = x.clone()
    changed[0, 0, 8:16, 0:8] += 5.0  # token 5: row 1, column 0
    torch.testing.assert_close(encoder(changed, keep=keep).tokens, kept.tokens)


def test_mask_hides_the_content_of_tokens_but_not_their_place():
    encoder = Vit(dim=48, depth=2, heads=3, patch=(8, 8)).eval()
    x = torch.randn(1, 1, 16, 16)
    mask = torch.tensor([[True, False, False, False]])
    hidden = encoder(x, mask=mask).tokens
    changed = x.clone()
    changed[..., :8, :8] = 3.0
    torch.testing.assert_close(encoder(changed, mask=mask).tokens, hidden)
    moved = encoder(x, mask=mask.roll(1, 1)).tokens
    assert not torch.allclose(moved, hidden)


def test_attention_equals_the_fused_kernel():
    q, k, v = torch.randn(3, 2, 4, 7, 16, generator=generator(0)).unbind(0)
    torch.testing.assert_close(attend(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v))


def test_positions_are_all_different_and_take_picks_by_index():
    table = positions(4, 7, 32, torch.device("cpu"))
    assert torch.pdist(table).min() > 0.1
    tokens = torch.randn(2, 28, 32, generator=generator(0))
    index = torch.tensor([[3, 1], [0, 27]])
    assert torch.equal(take(tokens, index)[1, 1], tokens[1, 27])
