"""A batch in pieces, and checkpointed layers: the same gradients from fewer kept bytes; refused with batch norm."""

import copy

import pytest
import torch
from torch import nn

from audiorep.encoders.base import Encoder, split_batches
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.convnext import ConvNeXt
from audiorep.encoders.resnet import ResNet
from audiorep.encoders.vit import Vit
from audiorep.encoders.wave import WaveTransformer
from audiorep.errors import AudiorepError
from audiorep.types import Features, generator

WAVE = {"dim": 16, "depth": 2, "heads": 2, "conv": [[8, 10, 5], [8, 3, 2]], "position_kernel": 8, "position_groups": 4}
MAKE = {
    "vit": (lambda: Vit(dim=24, depth=3, heads=3, patch=(8, 8)), (7, 1, 32, 24)),
    "convnext": (lambda: ConvNeXt((1, 1), (8, 16), scale=0.5), (7, 1, 32, 24)),
    "wave": (lambda: WaveTransformer(**WAVE), (7, 1, 1, 300)),
}


def build(name: str) -> tuple[Encoder, torch.Tensor]:
    torch.manual_seed(0)
    make, shape = MAKE[name]
    return make().double().train(), torch.randn(shape, generator=generator(1), dtype=torch.float64)


def contrast(out: Features) -> torch.Tensor:
    """A loss of all samples with all others, on pooled, tokens and layers."""
    layers = sum(layer.square().mean() for layer in out.layers)
    return (out.pooled @ out.pooled.T).logsumexp(1).mean() + (out.tokens.mean((1, 2)).sum()) ** 2 + layers


def gradients(encoder: Encoder, x: torch.Tensor, **given: torch.Tensor) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss, gradients, and the bytes that autograd keeps outside of weights."""
    weights = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    encoder.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = contrast(encoder(x, **given))
    loss.backward()
    return (
        float(loss.detach()),
        {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None},
        sum(kept.values()),
    )


def same(found: tuple, wanted: tuple) -> None:
    assert abs(found[0] - wanted[0]) < 1e-10 and found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("pieces", [2, 3, 20])
@pytest.mark.parametrize("name", MAKE)
def test_gradients_in_pieces_equal_those_of_the_whole_batch(name, pieces):
    encoder, x = build(name)
    whole = gradients(encoder, x)
    split_batches(encoder, pieces)
    split = gradients(encoder, x)
    same(split, whole)
    assert split[2] < 0.5 * whole[2]


@pytest.mark.parametrize("name", ["keep", "mask"])
def test_keep_and_mask_are_split_along(name):
    encoder, x = build("vit")
    rng = generator(2)
    order = torch.rand(7, 12, generator=rng).argsort(1)
    given = {"keep": order[:, :5]} if name == "keep" else {"mask": torch.rand(7, 12, generator=rng) < 0.5}
    whole = gradients(encoder, x, **given)
    split_batches(encoder, 3)
    same(gradients(encoder, x, **given), whole)


def test_without_gradient_or_in_evaluation_the_outputs_are_the_same_too():
    encoder, x = build("vit")
    wanted = encoder(x)
    split_batches(encoder, 3)
    calls = []
    encoder.embed.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    with torch.no_grad():
        found = encoder(x)
    assert calls == [3, 3, 1] and len(found.layers) == 3
    torch.testing.assert_close(found.pooled, wanted.pooled)
    torch.testing.assert_close(found.tokens, wanted.tokens)
    encoder.eval()(x)
    assert calls == [3, 3, 1, 7]


def test_copies_split_too_and_one_piece_undoes_it():
    student = nn.Sequential(build("convnext")[0])
    split_batches(student, 4)
    teacher = copy.deepcopy(student)
    assert teacher[0].pieces == 4
    x = build("convnext")[1]
    torch.testing.assert_close(teacher(x).pooled, student(x).pooled)
    split_batches(teacher, 1)
    assert teacher[0].pieces == 1 and student[0].pieces == 4


@pytest.mark.parametrize("make", [lambda: SmallCnn(width=4, dim=8), lambda: ResNet(width=4)], ids=["cnn", "resnet"])
def test_batch_norm_is_refused(make):
    module = nn.ModuleList([build("vit")[0], make()])
    with pytest.raises(
        AudiorepError, match=r"trainer\.accumulate=4 would change what batch norm sees in .*convnext_mini"
    ):
        split_batches(module, 4)
    assert module[0].pieces == 1
    split_batches(module, 1)
    with pytest.raises(AudiorepError, match=r"trainer\.accumulate=0 must be 1 or more"):
        split_batches(module, 0)


def test_checkpointed_layers_give_the_same_gradients_from_fewer_bytes():
    encoder, x = build("vit")
    whole = gradients(encoder, x)
    encoder.checkpoint = True
    found = gradients(encoder, x)
    same(found, whole)
    assert found[2] < 0.5 * whole[2]
    split_batches(encoder, 2)
    same(gradients(encoder, x), whole)
