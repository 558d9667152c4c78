"""The commands as a user types them: the way through on a tiny corpus, and one clear line for wrong input."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.numpy import load_file
from toy import RATE_HZ, tone

from audiorep import files
from audiorep.checkpoint import Checkpoint
from audiorep.cli import VERBS, main
from audiorep.compress import Compress
from audiorep.data.audio import write_wav
from audiorep.data.manifest import write_manifest
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.frontend import Mel
from audiorep.learner import Learner
from audiorep.model import Model, ModelInfo, save_model
from audiorep.overrides import jobs, quoted_each

TINY = [
    "encoder.width=8", "encoder.dim=32", "trainer.max_steps=4", "trainer.precision=32-true", "data.batch_size=16",
    "data.workers=0", "objective.projector.hidden=32", "objective.projector.outputs=16", "trainer.health_every=2",
    "trainer.log_every=1", "evaluation.settings.resamples=20", "evaluation.settings.k=5",
]  # fmt: skip


def run(*arguments: object) -> int:
    """Exit status of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that a refused command prints."""
    assert run(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("audiorep: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module")
def trained(toy_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", *TINY) == 0
    return out


def test_audiorep_alone_explains_the_workflow_in_one_screen(capsys):
    main([])
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 40 and all(verb in text for verb in VERBS)


def test_a_sweep_goes_over_paths_too():
    given = ["model=my model", "recordings=/data/a b,/data/c=d", "out=x,y", "seed=0,1"]
    found = list(jobs("embed", [quoted_each(argument) for argument in given], True))
    assert [job[1] for job, _ in found] == ["recordings='/data/a b'"] * 2 + ["recordings='/data/c=d'"] * 2
    assert {job[0] for job, _ in found} == {"model='my model'"} and {job[2] for job, _ in found} == {"out='x,y'"}
    assert [name for _, name in found][:2] == ["recordings--data-a b,seed-0", "recordings--data-a b,seed-1"]
    assert quoted_each("recordings='a,b',c") == "recordings='a,b',c"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_its_keys(verb, capsys):
    assert run(verb, "--help") == 0
    text = capsys.readouterr().out
    assert ("out:" in text or verb == "relink") and text.startswith(f"audiorep {verb}: ")


def test_pretrain_leaves_model_metrics_logs_report_and_config(trained):
    names = {path.name for path in trained.iterdir()}
    wanted = {
        "config.yaml",
        "config.json",
        "model.safetensors",
        "metrics.json",
        "report.html",
        "last.ckpt",
        "golden.wav",
        "logs",
    }
    assert names == wanted
    metrics = json.loads((trained / "metrics.json").read_text())
    for name in ("knn/accuracy", "linear/cmap", "linear@1/balanced_accuracy", "rankme", "embedding_std"):
        assert {name, f"mel/{name}", f"random/{name}"} <= metrics.keys()
    assert metrics["knn/accuracy/low"] <= metrics["knn/accuracy"] <= metrics["knn/accuracy/high"]
    curves = pd.read_csv(next((trained / "logs" / "csv").rglob("metrics.csv")))
    assert {"loss", "backbone/rankme", "backbone/std", "projection/std", "lr", "windows_per_s"} <= set(curves.columns)
    assert list((trained / "logs" / "tensorboard").rglob("events*"))


def test_evaluate_a_saved_model_gives_the_same_scores(trained, toy_corpus, tmp_path):
    out = tmp_path / "evaluation"
    keys = ["evaluation.settings.resamples=20", "evaluation.settings.k=5"]
    assert run("evaluate", f"model={trained}", f"corpus={toy_corpus}", f"out={out}", *keys) == 0
    a, b = (json.loads((folder / "metrics.json").read_text()) for folder in (trained, out))
    assert a == pytest.approx(b, rel=1e-6)


def test_ctrl_c_ends_with_130_and_the_time_before_it_is_not_forgotten(toy_corpus, tmp_path, monkeypatch, capsys):
    keys = [f"corpus={toy_corpus}", *TINY, "trainer.max_steps=6", "evaluation.protocol=[]", f"out={tmp_path / 'run'}"]
    step, done = Learner.training_step, [0]

    def stopped(self, *given):
        done[0] += 1
        if done[0] == 4:
            self.began = (self.began[0] - 1000.0, self.began[1])  # as if it had taken so long
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(Learner, "training_step", stopped)
    assert run("pretrain", *keys) == 130
    assert "interrupted at step 3; go on with resume=true" in capsys.readouterr().err
    monkeypatch.undo()
    for _ in range(2):  # also where nothing is left to do
        assert run("pretrain", *keys, "resume=true") == 0
        told = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
        assert 1000 < told["seconds"] < 1900


def test_a_small_corpus_gets_smaller_batches_and_is_told(toy_corpus, tmp_path, capsys):
    rows = pd.read_csv(toy_corpus)
    rows["path"] = [str(toy_corpus.parent / path) for path in rows["path"]]
    rows[rows["group"].isin(["g0", "g1", "g2"])].to_csv(tmp_path / "few.csv", index=False)
    keys = [key for key in TINY if not key.startswith("data.batch_size")]
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={tmp_path / 'few.csv'}", f"out={out}", *keys, "split.folds=3") == 0
    assert "batches of 32 windows, as the training side has 32" in capsys.readouterr().err
    assert json.loads((out / "config.json").read_text())["training"]["batch_size"] == 32


def test_few_long_recordings_get_whole_batches(tmp_path):
    for i in range(3):
        write_wav(tmp_path / f"{i}.wav", np.tile(tone(i, i), 200), RATE_HZ)
    keys = [key for key in TINY if not key.startswith("data.batch_size")]
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={tmp_path}", f"out={out}", *keys, "trainer.max_steps=1", "window.length_s=0.5") == 0
    assert json.loads((out / "config.json").read_text())["training"]["batch_size"] == 128


def test_evaluate_without_a_score_is_refused_when_the_report_is_written(trained, toy_corpus, tmp_path, capsys):
    rows = pd.read_csv(toy_corpus)
    rows["path"] = [str(toy_corpus.parent / path) for path in rows["path"]]
    side = np.flatnonzero((rows["label"] == "trill") & rows["group"].isin(["g0", "g1", "g2"]))
    rows.loc[side[1:], "label"] = "up"
    corpus, out = tmp_path / "rare.csv", tmp_path / "scores"
    rows.assign(side=np.where(rows["group"].isin(["g0", "g1", "g2"]), "train", "test")).to_csv(corpus, index=False)
    keys = ["resampler=smote", "evaluation.protocol=[linear]", "split.column=side", "split.test=[test]"]
    assert run("evaluate", f"model={trained}", f"corpus={corpus}", f"out={out}", *keys) == 2
    said = capsys.readouterr().err
    assert "not evaluated: resampler: class 'trill' has a single example" in said and said.count("not evaluated") == 1
    assert "nothing to interpolate between" in (out / "report.html").read_text()


def test_export_then_embed_from_run_bundle_and_onnx_agree(trained, toy_corpus, tmp_path):
    bundle = tmp_path / "bundle"
    assert run("export", f"model={trained}", f"out={bundle}") == 0
    tables = []
    for i, model in enumerate((trained, bundle, bundle / "model.onnx")):
        out = tmp_path / f"e{i}"
        assert run("embed", f"model={model}", f"recordings={toy_corpus.parent}", f"out={out}") == 0
        tables.append(np.stack(pq.read_table(out / "embeddings.parquet")["embedding"].to_pylist()))
    assert len(tables[0]) == 96 and np.array_equal(tables[0], tables[1])
    assert np.linalg.norm(tables[2] - tables[0]) < 1e-4 * np.linalg.norm(tables[0])


def test_index_makes_one_manifest_of_recordings_with_raven_tables(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.concatenate([tone(0, 0), tone(1, 0)]), RATE_HZ)
    soundfile.write(folder / "b.wav", tone(2, 0), RATE_HZ)
    (folder / "a.Table.1.selections.txt").write_text(
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
        "1\tSpectrogram 1\t1\t0.1\t0.4\t500\t3000\tup\n2\tSpectrogram 1\t1\t0.6\t0.9\t500\t3000\tdown\n"
    )
    assert run("index", f"recordings={folder}", f"out={tmp_path / 'c.csv'}") == 0
    table = pd.read_csv(tmp_path / "c.csv", keep_default_na=False)
    assert table["label"].tolist() == ["up", "down", ""] and table["path"].iloc[0] == "recordings/a.wav"


def test_relative_folders_are_relative_to_where_one_stands(tmp_path, monkeypatch):
    for kind, name in enumerate(("up", "down")):
        (tmp_path / "calls" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "calls" / name / "a.wav", tone(kind, 0), RATE_HZ)
    monkeypatch.chdir(tmp_path)
    for folder, wanted in (("calls", ["down", "up"]), ("calls/up", [""])):
        assert run("index", f"recordings={folder}", "out=c.csv", "overwrite=true") == 0
        assert pd.read_csv("c.csv", keep_default_na=False)["label"].tolist() == wanted


def test_check_names_what_is_wrong_and_exits_with_one(tmp_path):
    soundfile.write(tmp_path / "good.wav", tone(0, 0), RATE_HZ)
    soundfile.write(tmp_path / "silent.wav", np.zeros(4000), RATE_HZ)
    (tmp_path / "bad.wav").write_bytes(b"not sound")
    out = tmp_path / "check.json"
    assert run("check", f"corpus={tmp_path}", f"out={out}") == 1
    found = {(f["kind"], Path(f["path"]).name) for f in json.loads(out.read_text())["findings"]}
    assert found == {("unusable", "bad.wav"), ("silent", "silent.wav")}


def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(toy_corpus, tmp_path):
    out = tmp_path / "sweep"
    assert (
        run("pretrain", "-m", f"corpus={toy_corpus}", f"out={out}", "seed=0,1", "evaluation.protocol=[knn]", *TINY) == 0
    )
    assert sorted(path.name for path in out.iterdir()) == ["seed-0", "seed-1", "sweep.csv"]
    a, b = (load_file(out / name / "model.safetensors")["encoder.mix.0.weight"] for name in ("seed-0", "seed-1"))
    assert not np.array_equal(a, b)


def test_the_same_seed_gives_the_same_model(trained, toy_corpus, tmp_path):
    assert run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'again'}", *TINY) == 0
    a, b = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "again"))
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_weights(toy_corpus, tmp_path):
    keys = [
        f"corpus={toy_corpus}",
        *TINY,
        "trainer.max_steps=120",
        "trainer.checkpoint_every_s=0.02",
        "evaluation.protocol=[]",
    ]
    assert run("pretrain", f"out={tmp_path / 'whole'}", *keys) == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "audiorep.cli", "pretrain", f"out={out}", *keys, "resume=true"]
    rng = np.random.default_rng(int(time.time()))
    for _ in range(2):
        seen = (out / "last.ckpt").stat().st_mtime_ns if (out / "last.ckpt").exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and (
            not (out / "last.ckpt").exists() or (out / "last.ckpt").stat().st_mtime_ns == seen
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.wait()
        assert (out / "last.ckpt").exists()
    assert run("pretrain", f"out={out}", *keys, "resume=true") == 0
    a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", out))
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_corrupt_file_among_good_ones_is_left_out_and_named(toy_corpus, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = pd.read_csv(toy_corpus).head(64)
    for name in rows["path"]:
        (folder / name).write_bytes((toy_corpus.parent / name).read_bytes())
    whole = (folder / "003.wav").read_bytes()
    (folder / "003.wav").write_bytes(whole[: len(whole) // 2])  # truncated
    (folder / "005.wav").write_bytes(b"")
    soundfile.write(folder / "007.wav", np.full(4000, np.nan), RATE_HZ, subtype="FLOAT")
    rows.to_csv(folder / "c.csv", index=False)
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={folder / 'c.csv'}", f"out={out}", *TINY, "trainer.max_steps=12") == 0
    left_out = pd.read_csv(out / "quarantine.csv")
    reasons = {Path(path).name: reason for path, reason in zip(left_out["path"], left_out["reason"], strict=True)}
    assert "empty" in reasons["005.wav"] and "NaN" in reasons["007.wav"]
    assert reasons.keys() <= {"003.wav", "005.wav", "007.wav"}
    assert "005.wav" in (out / "report.html").read_text()


FOR_VIEWS = {
    "noisy": "denoising_autoencoder",
    "clean": "mae",
    "crop": "mae",
    "two_frontends": "vicreg_branches",
    "mel_and_wave": "vicreg_wave",
    "calls": "supervised",
    "frames": "supervised",
    "strong": "supervised",
    "two_weak": "pi_model",
    "weak_strong": "fixmatch",
}
OWN_KEYS = {"mae": [*TINY[2:6], "encoder.dim=48", "encoder.depth=1"], "denoising_autoencoder": TINY[:6]}
OWN_KEYS |= dict.fromkeys(("supervised", "pi_model", "fixmatch"), TINY[:6])


@pytest.mark.parametrize("name", sorted(path.stem for path in Path("configs/views").glob("*.yaml")))
@pytest.mark.parametrize("seconds", [0.3, 0.9])
def test_every_views_config_trains_at_two_window_lengths(name, seconds, toy_corpus, tmp_path):
    keys = [f"views={name}", f"window.length_s={seconds}", f"out={tmp_path / 'run'}", "trainer.max_steps=2"]
    objective = FOR_VIEWS.get(name, "simclr")
    tiny = [*OWN_KEYS.get(objective, TINY), *keys]
    assert run("pretrain", f"corpus={toy_corpus}", f"objective={objective}", *tiny, "evaluation.protocol=[]") == 0


@pytest.mark.parametrize("keys", [["frontend=stft"], ["compress=pcen"], ["compress=decibel"], ["frontend=kaldi_fbank"],
                                  ["optimizer=lars"], ["window.channel=1"]], ids=" ".join)  # fmt: skip
def test_other_parts_train_too(keys, toy_corpus, tmp_path):
    assert run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *TINY, *keys, "trainer.max_steps=2") == 0


def test_labels_of_several_classes_are_evaluated_by_cmap(toy_corpus, tmp_path):
    rows = pd.read_csv(toy_corpus)
    rows["path"] = [str(toy_corpus.parent / name) for name in rows["path"]]
    rows["label"] = ["up|loud", "down", "flat|-up", "", *rows["label"][4:]]
    rows.to_csv(tmp_path / "c.csv", index=False)
    keys = ["labels.multilabel=true", "labels.complete=true", f"out={tmp_path / 'run'}"]
    assert run("pretrain", f"corpus={tmp_path / 'c.csv'}", *keys, *TINY) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0.2 < metrics["linear/cmap"] <= 1.0 and "mel/knn/cmap" in metrics and "knn/accuracy" not in metrics


def test_rows_that_cannot_be_decoded_are_not_scored(toy_corpus, tmp_path):
    rows = pd.read_csv(toy_corpus)
    rows["path"] = [str(toy_corpus.parent / name) for name in rows["path"]]
    soundfile.write(tmp_path / "nan.wav", np.full(4000, np.nan), RATE_HZ, subtype="FLOAT")
    rows.loc[:7, "path"] = str(tmp_path / "nan.wav")
    rows.to_csv(tmp_path / "c.csv", index=False)
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={tmp_path / 'c.csv'}", f"out={out}", *TINY) == 0
    assert "8 row(s) cannot be decoded and are not scored" in (out / "report.html").read_text()


def test_overwriting_leaves_nothing_of_the_earlier_run(toy_corpus, tmp_path):
    keys = [f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *TINY, "overwrite=true"]
    assert run("pretrain", *keys) == 0 and run("pretrain", *keys, "trainer.max_steps=2") == 0
    curves = pd.concat(pd.read_csv(path) for path in (tmp_path / "run" / "logs" / "csv").rglob("metrics.csv"))
    assert curves["step"].max() == 2


def test_paths_with_umlauts_brackets_and_equals_signs_are_taken_as_they_are(tmp_path):
    folder = tmp_path / "Müller's site (1), a=b"
    folder.mkdir()
    soundfile.write(folder / "größe 1.wav", tone(0, 0), RATE_HZ)
    assert run("index", f"recordings={folder}", f"out={folder / 'c.csv'}") == 0
    assert pd.read_csv(folder / "c.csv")["path"].tolist() == ["größe 1.wav"]


def test_loader_processes_change_nothing(trained, toy_corpus, tmp_path):
    keys = [key for key in TINY if not key.startswith("data.workers")]
    assert run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *keys, "data.workers=2") == 0
    a, b = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "run"))
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_recordings_without_labels_train_and_are_not_scored(toy_corpus, tmp_path):
    out = tmp_path / "run"
    keys = [f"corpus={toy_corpus.parent}", "format=recordings", f"out={out}", "transductive=true"]
    assert run("pretrain", *keys, *TINY) == 0
    assert json.loads((out / "metrics.json").read_text()) == {} and "no labels" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["pretrian", "corpus=x"], "did you mean pretrain"),
        (["pretrain", "corpus=x", "trainer.max_stepz=5"], "did you mean 'trainer.max_steps'"),
        (["pretrain", "corpus=x", "objective=simcrl"], "did you mean 'simclr'"),
        (["pretrain", "corpus=x", "objectiv=simclr"], "did you mean 'objective'"),
        (["pretrain", "corpus=x", "objective.loss={of: 1}"], "to add it, say +objective.loss.of=VALUE"),
        (["pretrain", "corpus"], "no key=value"),
        (["pretrain"], "needs corpus="),
        (["pretrain", "corpus=nowhere.csv"], "corpus=nowhere.csv: no such file or folder"),
        (["evaluate", "model=nowhere", "corpus=x"], "model=nowhere: no config.json"),
        (["embed", "model=x", "recordings=nowhere"], "recordings=nowhere: no such file"),
        (["pretrain", "corpus=CORPUS", "frontend.f_max_hz=5000"], "Nyquist"),
        (["pretrain", "corpus=CORPUS", "window.length_s=0.01"], "shorter than n_fft"),
        (["pretrain", "corpus=CORPUS", "window.length_s=-1"], "must be above 0"),
        (["pretrain", "corpus=CORPUS", "split.column=nothing"], "no such column"),
        (["pretrain", "corpus=CORPUS", "split.folds=20"], "fewer than split.folds=20"),
        (["pretrain", "corpus=CORPUS", "data.batch_size=1000"], "lower data.batch_size"),
        (["pretrain", "corpus=CORPUS", "objective=mae", "encoder=small_cnn"], "choose encoder=vit_mini"),
        (["pretrain", "corpus=CORPUS", "objective=byol", "objective.predictor.outputs=7"], "must equal"),
        (["pretrain", "corpus=CORPUS", "trainer.max_steps=abc"], "trainer.max_steps"),
        (["pretrain", "corpus=CORPUS", "trainer.max_steps=0"], "at least one step"),
        (["pretrain", "corpus=CORPUS", "data.batch_size=0"], "data.batch_size=0"),
        (["pretrain", "corpus=CORPUS", "window.length_s=1s"], "a number or auto"),
        (["pretrain", "corpus=CORPUS", "window.length_s=0,2"], "numbers have a point (0.2)"),
        (["index", "recordings=nowhere", "out=x.csv"], "recordings=nowhere: no such file"),
        (["pretrain", "corpus=CORPUS", "window.channel=left"], "window.channel=left"),
        (["pretrain", "corpus=CORPUS", "frontend.scale=Slaney"], "say one of htk, slaney"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_wrong_input_gets_one_clear_line(arguments, words, toy_corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled = [argument.replace("CORPUS", str(toy_corpus)) for argument in arguments]
    assert words in refused(capsys, *filled)


def test_wrong_manifests_get_one_clear_line(tmp_path, capsys):
    manifest = tmp_path / "m.csv"
    for text, words in (
        ("label\nx\n", "no column with the recordings' paths"),
        ("path,label\nnone.wav,x\n", "none of the 1 rows can be used"),
        ("path,start_s\nnone.wav,abc\n", "row 2: column 'start_s'"),
        ("path,start_s,end_s\nnone.wav,2,1\n", "row 2: end_s is not after start_s"),
        ("path,label\n", "no rows"),
    ):
        manifest.write_text(text)
        assert words in refused(capsys, "pretrain", f"corpus={manifest}", f"out={tmp_path / 'out'}", "overwrite=true")


def test_an_output_folder_that_is_not_empty_is_refused(trained, toy_corpus, capsys):
    line = refused(capsys, "pretrain", f"corpus={toy_corpus}", f"out={trained}", *TINY)
    assert "is not empty" in line and "resume=true" in line and "overwrite=true" in line
    line = refused(capsys, "export", f"model={trained}", f"out={trained}")  # which cannot go on where it stopped
    assert "is not empty" in line and "resume" not in line and "overwrite=true" in line


def test_a_class_with_one_example_is_named_and_left_out(toy_corpus, tmp_path):
    rows = pd.read_csv(toy_corpus)
    rows["path"] = [str(toy_corpus.parent / name) for name in rows["path"]]
    rows.loc[0, "label"] = "rare"
    rows.to_csv(tmp_path / "c.csv", index=False)
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={tmp_path / 'c.csv'}", f"out={out}", *TINY) == 0
    assert "class &#39;rare&#39; has a single example" in (out / "report.html").read_text()


def test_a_checkpoint_of_another_version_is_refused(trained, toy_corpus, tmp_path, capsys):
    out = tmp_path / "old"
    out.mkdir()
    torch.save({"audiorep_checkpoint": 0}, out / "last.ckpt")
    line = refused(capsys, "pretrain", f"corpus={toy_corpus}", f"out={out}", "resume=true", *TINY)
    assert "checkpoint of version 0" in line


WRITERS = {
    "checkpoint": lambda folder: Checkpoint(folder / "last.ckpt").save(1, {"x": torch.zeros(20_000)}, {}),
    "wav": lambda folder: write_wav(folder / "x.wav", np.zeros(20_000), RATE_HZ),
    "text": lambda folder: files.write_text(folder / "x.json", "x" * 20_000),
    "manifest": lambda folder: write_manifest(pd.DataFrame({"path": ["x" * 20_000]}), folder / "x.csv"),
    "model": lambda folder: save_model(
        Model(Mel(RATE_HZ), Compress(), SmallCnn(8, 32)), {"encoder": {}}, ModelInfo(RATE_HZ, 0.5), folder
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing_half_written(name, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(AudiorepError, match=r"cannot write .*; nothing half-written"):
            WRITERS[name](tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
