"""The bundle in all its forms: torch, ONNX, program, older schema and smaller variants agree; its card's lines run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
import yaml
from make_schema import CLASSES, PARTS, of_frames, of_windows
from toy import RATE_HZ, tone

from audiorep.apply.card import head
from audiorep.apply.detect import reporting_of
from audiorep.apply.export import export, write_variants
from audiorep.apply.program import write_program
from audiorep.apply.scores import scorer_of
from audiorep.apply.tracks import calls_of
from audiorep.apply.trial import Naming, Trial, score, trial_of_golden, tried
from audiorep.apply.variants import LEAST, encoder_nodes, int8
from audiorep.cli import main
from audiorep.composing import compose
from audiorep.compress import Compress, FixedNorm, Log
from audiorep.data.audio import write_wav
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.evaluate.calibrate import probabilities
from audiorep.files import write_json
from audiorep.frontend import Mel
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.verbs.export import trial_of_corpus, variants_of

HERE = Path(__file__).parent
KINDS = {"single": (of_windows, False), "several": (of_windows, True), "frames": (of_frames, True)}
EVENTS = {"low": 0.8, "gap_s": 0.02, "shortest_s": 0.03, "exclusive": True}
TEMPERATURE = 0.7
SONG = np.concatenate([tone(kind, seed) for seed in range(2) for kind in range(4)])[: 7 * 2000 + 123]


SINGLE = pytest.mark.parametrize("made", ["single"], indirect=True)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def refused(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert run(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("audiorep: ")]
    return line


@pytest.fixture(scope="module", params=["single", pytest.param("several", marks=pytest.mark.slow), "frames"])
def made(request, tmp_path_factory, toy_corpus):
    """A model folder of each kind with thresholds between which its scores lie, and its bundle, by the command."""
    make, several = KINDS[request.param]
    torch.manual_seed(3)
    with torch.no_grad():
        model, encoder = make()
        seen = torch.from_numpy(SONG[None])
        logits = model(seen)[1].reshape(-1, len(CLASSES)) if model.framewise else model(seen.unfold(1, 4000, 100)[0])[1]
        middle = logits.mean(0)
        sharper = 3 / (logits - middle).std()
        model.classifier.bias.copy_((model.classifier.bias - middle) * sharper)
        model.classifier.weight *= sharper
    source = tmp_path_factory.mktemp("source")
    training = {"corpus": "tones", "split": "none", "multilabel": several}
    save_model(model, PARTS | {"encoder": encoder}, ModelInfo(RATE_HZ, 0.5, "context", CLASSES, training), source)
    write_wav(source / "golden.wav", tone(3, 99), RATE_HZ)
    at = {"down": 0.5, "flat": 0.4, "trill": None, "up": 0.3}
    marks = {name: {"threshold": value, "precision": 0.9, "recall": 0.5, "positives": 9} for name, value in at.items()}
    told = {"temperature": TEMPERATURE, "wanted_precision": 0.9, "multilabel": several, "classes": marks}
    write_json(source / "thresholds.json", told | ({"events": EVENTS} if model.framewise else {}))
    out = source / "bundle"
    keys = [f"model={source}", f"corpus={toy_corpus}", "variants=[fp16,int8]", "license=CC BY 4.0", f"out={out}"]
    assert run("export", *keys) == 0
    return source, out, model


def test_every_form_of_a_model_says_the_same_of_its_golden_clip(made):
    _, folder, model = made
    wave, _ = soundfile.read(folder / "golden.wav", dtype="float32")
    kept = json.loads((folder / "golden.json").read_text())
    wanted = [np.array(kept["embedding"]), np.array(kept["logits"])]
    one = torch.from_numpy(wave[None])
    said = {"onnx": onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"waveform": wave[None]})}
    with torch.no_grad():
        said["torch"] = model(one)
        said["program"] = torch.export.load(folder / "model.pt2").module()(one)
        said["reloaded"] = load_model(folder)[0](one)
        if not model.framewise:  # version 1 had no frames
            config = json.loads((folder / "config.json").read_text()) | {"audiorep_schema": 1}
            older = folder.parent / "older"
            older.mkdir()
            shutil.copy(folder / "model.safetensors", older)
            new = ("framewise", "unit_length")
            write_json(older / "config.json", {name: value for name, value in config.items() if name not in new})
            said["version 1"] = load_model(older)[0](one)
    for name, outputs in said.items():
        for found, value in zip(outputs, wanted, strict=True):
            assert np.linalg.norm(np.asarray(found)[0] - value) < 1e-5 * np.linalg.norm(value), name


@pytest.mark.parametrize("version", [1, 2, 3])
def test_models_of_all_versions_load_and_say_what_they_said(version):
    folder = HERE / f"schema_{version}"
    config = json.loads((folder / "config.json").read_text())
    assert config["audiorep_schema"] == version and ("framewise" in config) == (version > 1)
    assert config.get("unit_length", False) == (version == 3)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    model, info, _ = load_model(folder)
    wave, rate = soundfile.read(folder / "golden.wav", dtype="float32")
    kept = json.loads((folder / "golden.json").read_text())
    with torch.no_grad():
        said = model(torch.from_numpy(wave[None]))
    assert rate == info.sample_rate_hz and tuple(info.classes) == CLASSES
    for found, name in zip(said, ("embedding", "logits"), strict=True):
        assert np.linalg.norm(found[0].numpy() - kept[name]) < 1e-5 * np.linalg.norm(kept[name])


BLOCKED = (
    "import sys; sys.modules.update(dict.fromkeys(['torch', 'audiorep', 'librosa', 'scipy'])); exec(sys.stdin.read())"
)


def lines_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def said_by(lines: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", BLOCKED], input=lines, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_lines_on_the_card_name_the_calls_with_onnxruntime_and_soundfile_alone(made, tmp_path):
    _, folder, model = made
    naming, embedding = lines_of((folder / "README.md").read_text())
    assert float(said_by(embedding, folder)) < 1e-4
    shutil.copy(folder / "model.onnx", tmp_path)
    write_wav(tmp_path / "golden.wav", SONG, RATE_HZ)
    wave, _ = soundfile.read(tmp_path / "golden.wav", dtype="float32")
    told = json.loads((folder / "thresholds.json").read_text())
    info, wanted = load_model(folder)[1], []
    with torch.no_grad():
        if model.framewise:
            logits = model(torch.from_numpy(wave[None]))[1][0].numpy()[: -(-len(wave) // 80)]
            scorer = scorer_of(model, info)
            for call in calls_of([probabilities(logits, TEMPERATURE, True)], reporting_of(told).rule(scorer)):
                first, last = (place / RATE_HZ for place in scorer.span(call.first, call.last))
                wanted.append(f"{first:.3f}-{last:.3f} s: {CLASSES[call.label]} {call.score:.3f}")
        else:
            windows = np.pad(wave, (0, -len(wave) % 4000)).reshape(-1, 4000)
            p = probabilities(model(torch.from_numpy(windows))[1].numpy(), TEMPERATURE, told["multilabel"])
            for i, scores in enumerate(p):
                for name, value in zip(CLASSES, scores, strict=True):
                    at = told["classes"][name]["threshold"]
                    if at is not None and value >= at:
                        wanted.append(f"{0.5 * i:.2f} s: {name} {value:.3f}")
    found = said_by(naming, tmp_path).splitlines()
    assert sorted(found) == sorted(wanted) and len({line.split()[2] for line in found}) > 1
    assert len(naming.splitlines()) <= (15 if model.framewise else 10)


@SINGLE
def test_variants_keep_the_front_end_and_what_they_lose_is_measured(made, toy_corpus):
    source, folder, _ = made
    told = json.loads((folder / "variants.json").read_text())
    assert told["windows"] == 32 and told["calibrated_on"] == 64 and "test side" in told["tried_on"]
    original = onnx.load(folder / "model.onnx")
    behind = {name for node in encoder_nodes(original) for name in node.input}
    kernel = next(node.input[1] for node in original.graph.node if node.op_type == "Conv")
    assert kernel not in behind and {"embedding", "logits"} == {output.name for output in original.graph.output}
    metadata = {entry.key: entry.value for entry in original.metadata_props}
    settings = compose("export", [f"model={source}", f"corpus={toy_corpus}"])
    judged = trial_of_corpus(settings, load_model(source)[1], "frame" in metadata["events"])
    wanted = session(folder / "model.onnx").run(None, {"waveform": judged.judged})
    for name, smaller in (("fp16", onnx.TensorProto.FLOAT16), ("int8", onnx.TensorProto.INT8)):
        variant = onnx.load(folder / f"model.{name}.onnx")
        assert {entry.key: entry.value for entry in variant.metadata_props} == metadata
        types = {weight.name: weight.data_type for weight in variant.graph.initializer}
        assert types[kernel] == onnx.TensorProto.FLOAT and smaller in types.values()
        opened = session(folder / f"model.{name}.onnx")
        found = opened.run(None, {"waveform": judged.judged})
        pairs = zip(found[0].astype(float), wanted[0].astype(float), strict=True)
        cosine = np.mean([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs])
        figures = told["models"][name]
        assert figures["cosine"] == pytest.approx(cosine, abs=1e-6) and cosine > 0.99
        assert 0.5 < figures["agreement"] <= 1.0 and figures["bytes"] == (folder / figures["file"]).stat().st_size
        for shape in ((1, 4000), (3, 5111)):  # still free
            assert len(opened.run(None, {"waveform": np.zeros(shape, np.float32)})[0]) == shape[0]
    faint = {"waveform": 1e-3 * judged.judged}  # its powers are below the smallest number of float16
    found, wanted = (session(folder / name).run(None, faint)[1] for name in ("model.fp16.onnx", "model.onnx"))
    assert np.linalg.norm(found - wanted) < 0.01 * np.linalg.norm(wanted)
    assert "| int8 |" in (folder / "README.md").read_text()


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_plain_onnxruntime_and_the_program_tell_thresholds_and_rule(made):
    _, folder, model = made
    meta = session(folder / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(meta["thresholds"]) == {"down": 0.5, "flat": 0.4, "up": 0.3}
    assert json.loads(meta["temperature"]) == TEMPERATURE and json.loads(meta["classes"]) == list(CLASSES)
    assert json.loads(meta["events"]) == (EVENTS if model.framewise else {})
    extra = dict.fromkeys(("thresholds", "classes"), "")
    torch.export.load(folder / "model.pt2", extra_files=extra)
    assert {name: extra[name] for name in extra} == {name: meta[name] for name in extra}


@SINGLE
def test_a_hub_can_read_the_head_of_the_card(made):
    text = (made[1] / "README.md").read_text()
    _, top, _ = text.split("---\n", 2)
    told = yaml.safe_load(top)
    assert told["license"] == "cc-by-4.0" and told["library_name"] == "audiorep" and told["datasets"] == ["tones"]
    assert told["pipeline_tag"] == "audio-classification" and all(isinstance(tag, str) for tag in told["tags"])


@pytest.mark.parametrize(
    "licence,corpus,wanted",
    [
        ("CC BY-NC-SA 4.0", "/data/my birds/corpus.csv", {"license": "cc-by-nc-sa-4.0", "datasets": ["corpus"]}),
        ("ask: me #1", "o/birds", {"license": "other", "license_name": "ask: me #1", "datasets": ["o/birds"]}),
        ("unknown", "unknown", {"license": "unknown", "datasets": []}),
    ],
)
def test_licences_and_corpora_are_told_as_hubs_want_them(licence, corpus, wanted):
    card = {"license": licence, "dataset": corpus, "metrics": {"knn/accuracy": 1.0, "mel/rankme": 2.0, "test/ap/x": 1}}
    assert head(card) == wanted | {"metrics": ["accuracy"]}


@SINGLE
def test_a_variant_that_is_too_far_from_float32_is_refused_with_the_figure(made, tmp_path):
    shutil.copy(made[1] / "model.onnx", tmp_path)
    with pytest.raises(
        AudiorepError, match=r"variants=fp16: the mean cosine .* is (1\.0000|0\.99\d\d), below least_cosine=1\.01"
    ):
        write_variants(tmp_path, ["fp16"], trial_of_golden(tone(3, 99)), None, 1.01)


@SINGLE
def test_int8_wants_enough_sounds_to_calibrate_on(made):
    with pytest.raises(AudiorepError, match=f"{LEAST} windows are needed and there are {LEAST - 1}"):
        int8(onnx.load(made[1] / "model.onnx"), np.zeros((LEAST - 1, 4000), np.float32))


@SINGLE
def test_what_cannot_work_is_refused_in_a_line(made, toy_corpus, tmp_path, capsys):
    given = ("export", f"model={made[0]}", f"out={tmp_path / 'out'}")
    assert "there are fp16, int8" in refused(capsys, *given, "variants=[int4]")
    assert "name a corpus" in refused(capsys, *given, "variants=int8")
    assert "say variants=" in refused(capsys, *given, f"corpus={toy_corpus}")
    assert "out=" in refused(capsys, *given, f"out={toy_corpus}/deeper")
    assert not (tmp_path / "out").exists()
    assert variants_of(compose("export", ["model=x", "variants=fp16"])) == ["fp16"]


@SINGLE
def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(made, tmp_path):
    _, info, parts = load_model(made[0])
    with pytest.raises(AudiorepError, match="cannot write into out="):
        export(made[2], info, parts, tone(0, 0), tmp_path / "missing", {"license": "mit", "dataset": "d", "title": "t"})


@SINGLE
def test_a_failed_export_leaves_the_bundle_that_was_there(made, capsys, monkeypatch):
    source, folder, _ = made

    def exported(model, info, golden, out, facts):
        shutil.copy(folder / "model.onnx", out)
        return {"4000": 0.0}, []

    monkeypatch.setattr("audiorep.apply.export.write_exported", exported)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    keys = [f"model={source}", f"out={folder}", "variants=fp16", "least_cosine=2", "overwrite=true"]
    assert "below least_cosine=2" in refused(capsys, "export", *keys)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@SINGLE
def test_a_corpus_at_another_rate_is_resampled_and_where_nothing_is_held_out_windows_take_turns(made, tmp_path):
    lines = ["path,label"]
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", tone(i % 4, i, rate_hz=2 * RATE_HZ), 2 * RATE_HZ)
        lines.append(f"{i}.wav,")
    (tmp_path / "c.csv").write_text("\n".join(lines) + "\n")
    settings = compose("export", [f"model={made[0]}", f"corpus={tmp_path / 'c.csv'}"])
    trial = trial_of_corpus(settings, load_model(made[0])[1], made[2].framewise)
    assert trial.judged.shape == trial.calibration.shape == (3, 4000) and "every other window" in trial.heard
    whole, _ = soundfile.read(tmp_path / "1.wav", dtype="float32")
    spectrum = np.abs(np.fft.rfft(whole))[:2000], np.abs(np.fft.rfft(trial.judged[0]))[:2000]
    assert np.corrcoef(*spectrum)[0, 1] > 0.99


def test_agreement_and_scores_by_hand():
    one = Naming(False, False, 1.0, np.full(3, 0.5))
    a, b = (
        np.array([[3.0, 1, 0], [0, 2, 1], [5, 0, 0], [0, 0, 1]]),
        np.array([[1.0, 3, 0], [0, 2, 1], [5, 0, 0], [0, 0, 1]]),
    )
    assert one.agreement(a, b) == 0.75
    assert score(b, np.array([0, 1, 0, -1]), one) == {"balanced_accuracy": pytest.approx((0.5 + 1.0) / 2)}
    assert score(b, np.full(4, -1), one) == {} == score(b, None, one)
    several = Naming(False, True, 2.0, np.array([0.5, 0.9, 0.5]))  # sigmoid(x / 2) reaches .9 from x = 4.39 on
    x, y = np.array([[1.0, 4.3, -1], [1, 4.5, -1]]), np.array([[1.0, 4.5, -1], [1, 4.5, 1]])
    assert several.named(x).tolist() == [[True, False, False], [True, True, False]]
    assert several.agreement(x, y) == 3 / 5 and several.agreement(-9 + 0 * x, -9 + 0 * x) == 1.0
    frames = Naming(True, True, 1.0, np.full(2, 0.5))
    logits = np.array([[[9.0, 0], [0, 9], [9, 0]], [[0, 9], [9, 0], [0, 9]]])
    assert score(logits, np.array([1, 0]), frames) == {"balanced_accuracy": 1.0}


@SINGLE
def test_a_model_beside_itself_loses_nothing(made):
    path = made[1] / "model.onnx"
    found = tried(path, path, Trial("x", np.stack([tone(k, k) for k in range(4)]), np.zeros((0, 4000))), None)
    assert found["cosine"] == pytest.approx(1.0) and found["neighbour"] == 1.0 and found["ms"] > 0.0


class Stuck(SmallCnn):
    """An encoder of two windows, no more and no less."""

    def forward(self, spec, *, keep=None, mask=None):
        return super().forward(spec if len(spec) == 2 else spec[:0])


def test_what_torch_export_cannot_leave_free_is_told(tmp_path):
    model = Model(Mel(RATE_HZ, win_s=0.032, hop_s=0.01, bands=32), Compress(Log(), FixedNorm()), Stuck(width=4, dim=8))
    assert write_program(model.eval(), 4000, tmp_path / "x.pt2", {}) == ["batch is 2"]
