"""The bundle: ONNX equals torch at several lengths, loads with plain onnxruntime, refuses strangers' classes."""

import json

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from toy import CNN, PARTS, RATE_HZ, model_of, tone

from audiorep.apply.embed import embed_recordings, open_embedder
from audiorep.apply.export import export
from audiorep.apply.waveform_onnx import parity
from audiorep.compress import Compress, Decibel, FixedNorm, Log, Pcen
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.frontend import KaldiFbank, Mel, Stft
from audiorep.model import SCHEMA, Model, ModelInfo, load_model, save_model
from audiorep.types import generator

VIT = {"_target_": "audiorep.encoders.vit.Vit", "dim": 48, "depth": 2, "heads": 3, "patch": [16, 8]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle")
    model = model_of(SmallCnn(width=8, dim=32))
    info = ModelInfo(RATE_HZ, 0.5, training={"corpus": "tones", "objective": "none", "split": "none"})
    card = {"title": "t", "license": "cc0-1.0", "dataset": "tones", "metrics": {"knn/accuracy": 0.5}}
    errors = export(model, info, PARTS, tone(0, 1), folder, card)
    return folder, model, errors


@pytest.mark.parametrize(
    "frontend",
    [Mel(16000), Stft(16000, f_max_hz=5000.0), KaldiFbank(), Mel(16000, win_length=300, n_fft=1024),
     KaldiFbank(window="povey", gain=3.0)],
)  # fmt: skip
def test_the_convolution_equals_the_transform(frontend):
    wave = torch.randn(2, 5000, generator=generator(0))
    wanted = frontend(wave)
    assert float((frontend.exported()(wave) - wanted).norm() / wanted.norm()) < 1e-5


def test_onnx_equals_torch_at_two_lengths(bundle):
    folder, model, errors = bundle
    assert len(errors) == 2 and max(errors.values()) < 1e-4
    assert parity(model, folder / "model.onnx", np.resize(tone(2, 5), 7777)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("compression", [Decibel(), Pcen(hop_s=0.01, bands=32)], ids=lambda c: type(c).__name__)
def test_a_vit_with_other_compressions_exports_too(compression, tmp_path):
    torch.manual_seed(0)
    info = ModelInfo(RATE_HZ, 0.5, training={"split": "none"})
    frontend = Mel(RATE_HZ, win_s=0.032, hop_s=0.01, bands=32)
    model = Model(frontend, Compress(compression, FixedNorm()), Vit(dim=48, depth=2, heads=3, patch=(16, 8))).eval()
    card = {"title": "t", "license": "mit", "dataset": "d", "metrics": {}}
    errors = export(model, info, PARTS | {"encoder": VIT}, tone(0, 1), tmp_path, card)
    assert max(errors.values()) < 1e-4


def test_the_bundle_says_what_it_is_and_its_golden_clip_holds(bundle):
    folder, _, _ = bundle
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert [i.name for i in session.get_inputs()] == ["waveform"] and session.get_inputs()[0].type == "tensor(float)"
    assert [o.name for o in session.get_outputs()] == ["embedding"]
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["sample_rate"] == str(RATE_HZ) and float(meta["sample_duration"]) == 0.5
    assert json.loads(meta["classes"]) == [] and meta["embedding_outputs_key"] == "embedding"
    wave, rate = soundfile.read(folder / "golden.wav", dtype="float32")
    found = session.run(["embedding"], {"waveform": wave[None]})[0][0]
    wanted = np.array(json.loads((folder / "golden.json").read_text())["embedding"])
    assert rate == RATE_HZ and np.linalg.norm(found - wanted) < 1e-4 * np.linalg.norm(wanted)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "model.onnx", "model.pt2"} | {
        "README.md",
        "golden.wav",
        "golden.json",
    }
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\n") and "pipeline_tag: audio-classification" in card


def test_a_reloaded_bundle_equals_the_model(bundle):
    folder, model, _ = bundle
    again, info, parts = load_model(folder)
    wave = torch.randn(2, 4000, generator=generator(1))
    assert torch.equal(again(wave)[0], model(wave)[0]) and info.window_samples == 4000 and parts == PARTS


def test_torch_and_onnx_give_the_same_parquet_and_an_interrupted_run_goes_on(bundle, tmp_path):
    folder, _, _ = bundle
    paths = []
    for i in range(4):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], np.concatenate([tone(k, i) for k in range(3)])[: 9000 + 400 * i], RATE_HZ)
    (tmp_path / "3.wav").write_bytes(b"RIFF")
    tables = []
    for name, source in (("torch", folder), ("onnx", folder / "model.onnx")):
        embedder = open_embedder(source)
        out = tmp_path / name

        def stop(done, total):
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            embed_recordings(paths, embedder, out, 2000, {"hop": 2000}, 4, stop)
        assert len(list((out / "parts").glob("*.parquet"))) == 2
        with pytest.raises(AudiorepError, match="was begun with hop=2000, not 1000"):
            embed_recordings(paths, embedder, out, 1000, {"hop": 1000}, 4)
        failed = embed_recordings(paths, embedder, out, 2000, {"hop": 2000}, 4)
        assert [path.name for path, _ in failed] == ["3.wav"]
        tables.append(pq.read_table(out / "embeddings.parquet"))
        assert sorted(p.name for p in out.iterdir()) == ["embeddings.parquet", "journal.jsonl"]
    a, b = (np.stack(table["embedding"].to_pylist()) for table in tables)
    assert tables[0].column_names == ["path", "start_s", "end_s", "embedding"] and len(a) == 4 + 4 + 4
    assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(a)
    assert tables[0]["start_s"].to_pylist()[:4] == [0.0, 0.25, 0.5, 0.75]


def test_a_classifier_adds_logits_and_labels(tmp_path):
    torch.manual_seed(0)
    model = model_of(SmallCnn(width=8, dim=32))
    model.classifier = torch.nn.Linear(32, 3)
    info = ModelInfo(RATE_HZ, 0.5, classes=("a", "b", "c"), training={"split": "none"})
    errors = export(model, info, PARTS, tone(0, 1), tmp_path, {"title": "t", "license": "mit", "dataset": "d"})
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert [o.name for o in session.get_outputs()] == ["embedding", "logits"] and max(errors.values()) < 1e-4
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["classes"]) == ["a", "b", "c"] and meta["class_outputs_key"] == "logits"
    assert (tmp_path / "labels.txt").read_text() == "a\nb\nc\n"
    wave = torch.from_numpy(tone(1, 2))[None]
    assert torch.equal(load_model(tmp_path)[0](wave)[1], model(wave)[1])


def test_a_strangers_class_is_not_loaded(bundle, tmp_path):
    folder, _, _ = bundle
    config = json.loads((folder / "config.json").read_text())
    config["compress"]["compression"]["_target_"] = "os.system"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AudiorepError, match=r"names the class os\.system"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change,words",
    [
        ({"audiorep_schema": SCHEMA + 1}, "install the newer audiorep"),
        ({"encoder": CNN | {"width": 16}}, "does not fit config.json"),
    ],
)
def test_a_model_of_another_version_or_shape_is_refused(bundle, tmp_path, change, words):
    folder, _, _ = bundle
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(AudiorepError, match=words):
        load_model(tmp_path)


def test_models_that_are_none_are_refused(tmp_path):
    with pytest.raises(AudiorepError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(AudiorepError, match="not an ONNX model"):
        open_embedder(tmp_path / "x.onnx")
    with pytest.raises(AudiorepError, match="no such file"):
        open_embedder(tmp_path / "y.onnx")


def test_every_allowed_class_exists():
    from hydra.utils import get_class

    from audiorep.model import ALLOWED

    assert all(get_class(name) for name in ALLOWED)


def test_saving_keeps_the_fitted_statistics(tmp_path):
    model = model_of(SmallCnn(width=8, dim=32))
    save_model(model, PARTS, ModelInfo(RATE_HZ, 0.5), tmp_path)
    again, _, _ = load_model(tmp_path)
    assert float(again.compress.norm.mean) == float(model.compress.norm.mean) != 0.0
    assert isinstance(model.compress.compression, Log) and not isinstance(model.compress.compression, Pcen)
