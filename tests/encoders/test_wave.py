"""The transformer on samples equals torchaudio's, loads weights laid out as AVES, and saves without them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toy import RATE_HZ, tone

from audiorep.apply.export import export
from audiorep.cli import main
from audiorep.compress import Compress, FixedNorm, Identity
from audiorep.encoders.wave import HUBERT_CONV, WaveTransformer, receptive
from audiorep.errors import AudiorepError
from audiorep.frontend_wave import Waveform
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.torchaudio import torchaudio
from audiorep.types import generator

AVES = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[12, 10, 5], [12, 3, 2], [12, 2, 2]],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 3,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 40,
    "encoder_ff_interm_dropout": 0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
}
"""The keys of the published aves-base-*.torchaudio.model_config.json."""

SMALL = {
    "dim": 24,
    "depth": 2,
    "heads": 3,
    "conv": [[12, 10, 5], [12, 3, 2]],
    "position_kernel": 8,
    "position_groups": 4,
}
PARTS = {
    "frontend": {"_target_": "audiorep.frontend_wave.Waveform", "sample_rate_hz": RATE_HZ},
    "compress": {
        "_target_": "audiorep.compress.Compress",
        "compression": {"_target_": "audiorep.compress.Identity"},
        "norm": {"_target_": "audiorep.compress.FixedNorm"},
    },
    "encoder": {"_target_": "audiorep.encoders.wave.WaveTransformer"},
}


@pytest.fixture
def aves(tmp_path):
    """torchaudio's model, its state dict with the names of the release, and its architecture."""
    torch.manual_seed(1)
    theirs = torchaudio.models.wav2vec2_model(**AVES, aux_num_out=None).eval()
    state = theirs.state_dict()
    place = "encoder.transformer.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):  # torchaudio of 2022 named them so
        state[f"{place}.{old}"] = state.pop(f"{place}.parametrizations.weight.{new}")
    torch.save(state, tmp_path / "aves.pt")
    save_file(state, tmp_path / "aves.safetensors")
    (tmp_path / "aves.json").write_text(json.dumps(AVES))
    return theirs, tmp_path


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_laid_out_as_aves_load_and_give_torchaudios_features(aves, suffix):
    theirs, folder = aves
    ours = WaveTransformer(weights=f"{folder}/aves.{suffix}", architecture=f"{folder}/aves.json").eval()
    wave = torch.randn(3, 1000, generator=generator(0))
    with torch.inference_mode():
        wanted = theirs.extract_features(wave)[0]
        found = ours(wave[:, None, None])
    assert ours.dim == 24 and len(found.layers) == len(wanted) == 2
    torch.testing.assert_close(found.tokens, wanted[-1], rtol=0, atol=0)
    torch.testing.assert_close(found.layers[0], wanted[0], rtol=0, atol=0)
    torch.testing.assert_close(found.pooled, wanted[-1].mean(1))


def test_pre_norm_layers_end_with_a_norm_as_in_torchaudio():
    ours = WaveTransformer(**SMALL, norm_first=True, extractor="layer_norm", conv_bias=True).eval()
    wave = torch.randn(2, 500, generator=generator(0))
    torch.testing.assert_close(ours(wave[:, None, None]).tokens, ours.network(wave)[0])


def test_a_saved_model_needs_none_of_the_files_it_was_made_from(aves):
    _, folder = aves
    paths = {"weights": f"{folder}/aves.pt", "architecture": f"{folder}/aves.json"}
    model = Model(Waveform(RATE_HZ), Compress(Identity(), FixedNorm()), WaveTransformer(**paths)).eval()
    parts = PARTS | {"encoder": PARTS["encoder"] | paths}
    save_model(model, parts, ModelInfo(RATE_HZ, 0.5), folder / "run")
    for name in ("aves.pt", "aves.json"):
        (folder / name).unlink()
    again, info, kept = load_model(folder / "run")
    wave = torch.from_numpy(tone(0, 0))[None]
    assert torch.equal(again(wave)[0], model(wave)[0])
    assert kept["encoder"]["weights"] is kept["encoder"]["architecture"] is None and kept["encoder"]["hidden"] == 40
    save_model(again, kept, info, folder / "copy")
    assert load_model(folder / "copy")[2] == kept


@pytest.mark.slow
def test_the_export_equals_torch(tmp_path):
    torch.manual_seed(0)
    model = Model(Waveform(RATE_HZ), Compress(Identity(), FixedNorm()), WaveTransformer(**SMALL)).eval()
    card = {"title": "t", "license": "mit", "dataset": "d", "metrics": {}}
    parts = PARTS | {"encoder": PARTS["encoder"] | SMALL}
    errors = export(model, ModelInfo(RATE_HZ, 0.25, training={"split": "none"}), parts, tone(0, 1), tmp_path, card)
    assert len(errors) == 2 and max(errors.values()) < 1e-4


def test_training_draws_nothing_from_the_global_generator():
    encoder = WaveTransformer(**SMALL).train()
    x = torch.randn(2, 1, 1, 600, generator=generator(0))
    before = torch.random.get_rng_state()
    first = encoder(x).pooled
    assert torch.equal(torch.random.get_rng_state(), before) and torch.equal(encoder(x).pooled, first)
    assert not torch.equal(WaveTransformer(**SMALL, dropout=0.5).train()(x).pooled, first)


def test_faint_and_short_waves_are_encoded():
    torch.manual_seed(0)
    encoder = WaveTransformer().eval()
    assert encoder.receptive == receptive(HUBERT_CONV) == 400
    wave = torch.from_numpy(np.stack([tone(0, 0), tone(1, 0)]))[:, None, None]
    assert encoder(wave[..., :7]).tokens.shape == encoder(wave[..., :400]).tokens.shape == (2, 1, 768)
    assert encoder(wave[..., :800]).tokens.shape == (2, 2, 768)
    inside = encoder.network.feature_extractor(wave[:, 0, 0], None)[0]
    assert 0.1 < float(inside.std()) < 10.0


def test_a_run_on_samples_leaves_scores_beside_a_mel_baseline_and_a_report(toy_corpus, tmp_path):
    keys = ["encoder=hubert_mini", "encoder.dim=48", "encoder.depth=1", "logger=none",
            "trainer.max_steps=2", "data.batch_size=16", "data.workers=0", "evaluation.settings.resamples=20"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *keys])
    assert ended.value.code == 0 and (tmp_path / "run" / "report.html").is_file()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["mel/knn/accuracy"] > 0.5 and "knn/accuracy" in metrics and "random/knn/accuracy" in metrics
    model, info, _ = load_model(tmp_path / "run")
    assert info.sample_rate_hz == RATE_HZ and float(model.compress.norm.std) != 1.0


@pytest.mark.parametrize(
    "name,content,words",
    [
        ("weights", None, r"encoder\.weights=.*no such file"),
        ("weights", b"nothing", "not a state dict"),
        ("weights", {"model": {"a": torch.zeros(1)}}, "not a state dict: it must hold tensors"),
        ("weights", [1, 2], "not a state dict: it must hold tensors"),
        ("weights", {"a": torch.zeros(1)}, r"lacks feature_extractor\.conv_layers\.0"),
        ("architecture", None, r"encoder\.architecture=.*no such file"),
        ("architecture", "{", "not valid JSON"),
        ("architecture", "[]", "no object"),
        ("architecture", '{"encoder_embed_dimension": 5}', "'encoder_embed_dimension' is no argument"),
        ("architecture", '{"encoder_embed_dim": 25}', "is no architecture"),
    ],
)
def test_wrong_files_get_one_clear_line(name, content, words, tmp_path):
    path = tmp_path / "file.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(AudiorepError, match=words) as error:
        WaveTransformer(**SMALL, **{name: str(path)})
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_name_the_first_key(aves):
    theirs, folder = aves
    with pytest.raises(AudiorepError, match=r"size mismatch for .*give encoder\.architecture="):
        WaveTransformer(**SMALL, weights=f"{folder}/aves.pt")
    deeper = folder / "deeper.json"
    deeper.write_text(json.dumps(AVES | {"encoder_num_layers": 3}))
    with pytest.raises(AudiorepError, match=r"lacks encoder\.transformer\.layers\.2\..* \(of 16 such\)"):
        WaveTransformer(weights=f"{folder}/aves.pt", architecture=str(deeper))
    torch.save(theirs.state_dict() | {"aux.weight": torch.zeros(1)}, folder / "more.pt")
    with pytest.raises(AudiorepError, match=r"has the unexpected aux\.weight \(of 1 such\)"):
        WaveTransformer(weights=f"{folder}/more.pt", architecture=f"{folder}/aves.json")


def test_spectrograms_and_masks_are_refused():
    encoder = WaveTransformer(**SMALL)
    with pytest.raises(AudiorepError, match="choose frontend=waveform"):
        encoder(torch.zeros(1, 1, 64, 96))
    with pytest.raises(AudiorepError, match="no patches to keep or mask"):
        encoder(torch.zeros(1, 1, 1, 600), mask=torch.zeros(1, 3, dtype=torch.bool))
