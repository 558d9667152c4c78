"""Trying out precision and layout: who wins, that nothing else changes, and that the choice is kept."""

import copy
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from audiorep import pace
from audiorep.cli import main
from audiorep.encoders.cnn import SmallCnn
from audiorep.pace import Way

USUAL = Way("bf16-mixed", True)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("fast", "by", "chosen"),
    [
        (Way("32-true", False), 0.5, Way("32-true", False)),
        (Way("bf16-mixed", False), 0.8, Way("bf16-mixed", False)),
        (Way("32-true", True), 0.95, USUAL),  # too near to tell
        (USUAL, 0.5, USUAL),
    ],
)
def test_the_usual_way_stays_unless_another_is_clearly_faster(fast, by, chosen, monkeypatch):
    monkeypatch.setattr(pace, "step_s", lambda encoder, spec, way: by if way == fast else 1.0)
    way, took = pace.fastest(SmallCnn(width=4, dim=8), (128, 1, 16, 20), CPU, USUAL)
    assert way == chosen and len(took) == 4 and took[fast] == by


def test_float32_is_all_that_is_tried_where_it_is_usual(monkeypatch):
    monkeypatch.setattr(pace, "step_s", lambda encoder, spec, way: float(way.channels_last))
    way, took = pace.fastest(SmallCnn(width=4, dim=8), (128, 1, 16, 20), CPU, Way("32-true", True))
    assert way == Way("32-true", False) and set(took) == {Way("32-true", True), Way("32-true", False)}


def test_trying_changes_neither_the_encoder_nor_the_global_generator():
    encoder = SmallCnn(width=4, dim=8)
    before, state = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    seen = []
    encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    pace.fastest(encoder, (128, 1, 16, 20), CPU, USUAL)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters()) and set(seen) == {pace.TRIED_WINDOWS}


def test_the_choice_is_told_and_kept_and_used_again_on_resume(toy_corpus, tmp_path, monkeypatch, capsys):
    keys = ["corpus=" + str(toy_corpus), f"out={tmp_path / 'run'}", "encoder.width=8", "encoder.dim=32", "data.workers=0",
            "trainer.precision=probe", "data.batch_size=16", "evaluation.protocol=[health]", "logger=none"]  # fmt: skip
    best = Way("32-true", False)
    monkeypatch.setattr(pace, "step_s", lambda encoder, spec, way: 0.5 if way == best else 1.0)
    run("pretrain", *keys, "trainer.max_steps=2")
    assert "trains with 32-true; a step of a few windows took" in capsys.readouterr().err
    stored = OmegaConf.load(tmp_path / "run" / "config.yaml").trainer
    assert (stored.precision, stored.channels_last) == best

    def untried(encoder, spec, way):
        raise AssertionError("was tried again")

    monkeypatch.setattr(pace, "step_s", untried)
    run("pretrain", *keys, "trainer.max_steps=2", "resume=true")
    assert (OmegaConf.load(tmp_path / "run" / "config.yaml").trainer.precision) == "32-true"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert not ended.value.code


@pytest.mark.slow
def test_a_compiled_encoder_trains_as_the_plain_one(toy_corpus, tmp_path):
    keys = [f"corpus={toy_corpus}", "encoder.width=8", "encoder.dim=32", "data.workers=0", "data.batch_size=16",
            "trainer.max_steps=3", "trainer.precision=32-true", "evaluation.protocol=[health]", "logger=none"]  # fmt: skip
    for name, backend in (("plain", "null"), ("compiled", "eager")):
        # not in this process: what checks shapes in tests does not compile
        command = [sys.executable, "-m", "audiorep", "pretrain", *keys, f"trainer.compile={backend}"]
        subprocess.run([*command, f"out={tmp_path / name}"], check=True, capture_output=True)
    plain, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    assert all(torch.allclose(plain[name], compiled[name], rtol=1e-4, atol=1e-5) for name in plain)
