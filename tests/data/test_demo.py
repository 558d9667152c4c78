"""The demo corpus keeps its promises: layout, determinism, honest annotation, and how hard it is."""

import csv
import io
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiorep.data.demo import CLIP_COLUMNS, RAVEN_COLUMNS, generate_demo_corpus
from audiorep.data.synth.calls import CALLS, LONGEST_CALL_S
from audiorep.data.synth.signals import CEILING
from audiorep.data.synth.sites import SITES
from audiorep.data.synth.voices import draw_individuals
from audiorep.errors import AudiorepError

MINUTES = 12.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return generate_demo_corpus(tmp_path_factory.mktemp("demo") / "corpus", minutes=MINUTES).parent


def rows_of(path: Path, separator: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter=separator))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_corpus_holds_its_clips_and_recordings_and_says_how_it_was_made(corpus):
    rows, recordings = rows_of(corpus / "clips.csv"), sorted((corpus / "recordings").glob("*.wav"))
    assert tuple(rows[0]) == CLIP_COLUMNS
    assert {row["path"] for row in rows} == {f"clips/{path.name}" for path in (corpus / "clips").iterdir()}
    assert not list(corpus.rglob(".*")), "temporary files are left over"
    text = (corpus / "README.md").read_text(encoding="utf-8")
    assert "seed=0" in text and "CC0" in text
    wavs = [corpus / row["path"] for row in rows] + recordings
    infos = [soundfile.info(path) for path in wavs]
    assert {(info.samplerate, info.channels, info.subtype) for info in infos} == {(16_000, 1, "PCM_16")}
    assert sum(info.duration for info in infos[: len(rows)]) == pytest.approx(30 * MINUTES, rel=0.05)
    assert sum(info.duration for info in infos[len(rows) :]) == pytest.approx(30 * MINUTES, rel=0.05)


def test_labels_are_few_but_cover_every_type_at_every_site(corpus):
    sparse, full = rows_of(corpus / "clips.csv"), rows_of(corpus / "clips_all_labels.csv")
    assert len(CALLS) == 12
    assert [row | {"label": ""} for row in sparse] == [row | {"label": ""} for row in full]
    assert all(few["label"] in ("", all_["label"]) for few, all_ in zip(sparse, full, strict=True))
    labelled = [row for row in sparse if row["label"]]
    assert len(labelled) / len(sparse) == pytest.approx(0.4, abs=0.05)
    cells = {(site.name, label) for site in SITES for label in CALLS}
    assert {(row["site"], row["label"]) for row in labelled} == cells
    assert all(row["group"] == row["site"] for row in sparse)
    assert len({row["individual"] for row in sparse}) == 10
    assert len({row["recorder"] for row in sparse}) == 3


def test_clips_of_noise_are_known_to_hold_no_call_and_are_of_all_sites(corpus):
    noises = rows_of(corpus / "noise.csv")
    assert {row["path"] for row in noises} == {f"noise/{path.name}" for path in (corpus / "noise").iterdir()}
    assert len(noises) == len(rows_of(corpus / "clips.csv")) // 5
    assert {row["label"] for row in noises} == {"noise"}
    assert {(row["site"], row["group"]) for row in noises} == {(site.name, site.name) for site in SITES}
    calls = [row for row in rows_of(corpus / "clips_all_labels.csv") if float(row["snr_db"]) > 10]
    assert np.median([loudness(corpus / row["path"]) for row in noises]) < np.median(
        [loudness(corpus / row["path"]) for row in calls]
    )


def loudness(path: Path) -> float:
    """Of the loudest 50 ms, without the rumble of wind."""
    wave, rate_hz = soundfile.read(path)
    return float(np.abs(np.diff(wave, append=0.0)).reshape(-1, rate_hz // 20).mean(1).max())


def test_calls_stand_where_the_annotation_says(corpus):
    near = [row for row in rows_of(corpus / "clips_all_labels.csv") if float(row["snr_db"]) > 20]
    clear = []
    for row in near:
        wave, rate_hz = soundfile.read(corpus / row["path"])
        start, end = (round(float(row[name]) * rate_hz) for name in ("start_s", "end_s"))
        assert 0 < start < end < len(wave) and abs((start + end) / 2 - len(wave) / 2) < 0.04 * rate_hz
        difference = np.abs(np.diff(wave))  # leaves the rumble of wind behind
        clear.append(difference[start:end].mean() > 1.2 * difference[: start - 80].mean())
    assert len(clear) > 10 and np.mean(clear) > 0.9


def test_snr_is_broad_with_a_comfortable_median(corpus):
    snr_db = np.array([float(row["snr_db"]) for row in rows_of(corpus / "clips.csv")])
    assert 9 < np.median(snr_db) < 14
    assert -3 <= snr_db.min() < 2 and 20 < snr_db.max() <= 25


def test_selection_tables_bound_the_calls_in_time_and_frequency(corpus):
    overlaps, found = 0, set()
    for wav in (corpus / "recordings").glob("*.wav"):
        rows = rows_of(wav.with_name(f"{wav.stem}.Table.1.selections.txt"), "\t")
        assert tuple(rows[0]) == RAVEN_COLUMNS
        assert [row["Selection"] for row in rows] == [str(number + 1) for number in range(len(rows))]
        begin_s, end_s = (np.array([float(row[f"{name} Time (s)"]) for row in rows]) for name in ("Begin", "End"))
        low_hz, high_hz = (np.array([float(row[f"{name} Freq (Hz)"]) for row in rows]) for name in ("Low", "High"))
        assert (np.diff(begin_s) > 0).all() and (begin_s < end_s).all()
        assert end_s[-1] <= soundfile.info(wav).duration
        assert (low_hz > 0).all() and (low_hz < high_hz).all() and (high_hz < 8000).all()
        overlaps += int((begin_s[1:] < end_s[:-1]).sum())
        found |= {row["Annotation"] for row in rows}
    assert overlaps > 5
    assert found == set(CALLS)


def test_same_seed_same_bytes_and_no_file_hangs_on_the_others(tmp_path):
    for name, minutes, seed in (("first", 1.0, 3), ("again", 1.0, 3), ("longer", 1.4, 3), ("other", 1.0, 4)):
        generate_demo_corpus(tmp_path / name, minutes=minutes, seed=seed, sample_rate_hz=8_000)
    first, again, longer, other = (bytes_of(tmp_path / name) for name in ("first", "again", "longer", "other"))
    assert first == again
    clips = {path for path in first if path.startswith("clips/")}
    assert len(clips) == 30
    assert all(first[path] == longer[path] for path in clips)
    assert all(first[path] != other[path] for path in clips)


@pytest.mark.parametrize("sample_rate_hz", [8_000, 22_050])
def test_other_sample_rates_keep_all_calls_below_their_ceiling(tmp_path, sample_rate_hz):
    generate_demo_corpus(tmp_path, minutes=0.5, sample_rate_hz=sample_rate_hz)
    for wav in (tmp_path / "recordings").glob("*.wav"):
        assert soundfile.info(wav).samplerate == sample_rate_hz
        for row in rows_of(wav.with_name(f"{wav.stem}.Table.1.selections.txt"), "\t"):
            assert float(row["High Freq (Hz)"]) <= CEILING * sample_rate_hz


@pytest.mark.parametrize("label", CALLS)
@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000])
def test_calls_are_finite_short_and_below_the_ceiling(label, sample_rate_hz):
    rng = np.random.default_rng(0)
    for individual in draw_individuals(rng):
        call = CALLS[label](rng, individual, sample_rate_hz)
        assert 0.15 * sample_rate_hz < len(call) <= LONGEST_CALL_S * sample_rate_hz
        assert np.isfinite(call).all() and np.abs(call).max() > 0.1
        power = np.abs(np.fft.rfft(call)) ** 2
        above = np.fft.rfftfreq(len(call), 1 / sample_rate_hz) > CEILING * sample_rate_hz
        assert power[above].sum() < 0.02 * power.sum()


def test_progress_counts_every_file(tmp_path):
    seen = []
    generate_demo_corpus(tmp_path, minutes=0.2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"minutes": 0.0}, "positive number of minutes"),
        ({"minutes": float("nan")}, "positive number of minutes"),
        ({"sample_rate_hz": 7_999}, "8000 Hz"),
        ({"seed": -1}, "seed"),
    ],
)
def test_nonsense_is_refused(tmp_path, wrong, sentence):
    with pytest.raises(AudiorepError, match=sentence):
        generate_demo_corpus(tmp_path / "corpus", **wrong)
    assert not (tmp_path / "corpus").exists()


def test_an_occupied_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(AudiorepError, match="not empty"):
        generate_demo_corpus(tmp_path)
    with pytest.raises(AudiorepError, match="is a file"):
        generate_demo_corpus(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_mel_means_do_not_solve_it_but_order_in_time_does(corpus):
    """Across sites; the second set of features adds eight steps in time and the rhythm of the power."""
    table = pd.read_csv(corpus / "clips_all_labels.csv")
    labels, sites = table["label"].to_numpy(object), table["site"].to_numpy(object)
    means, ordered = [], []
    for row in table.itertuples():
        wave, rate_hz = soundfile.read(corpus / row.path, dtype="float32")
        call = wave[round(row.start_s * rate_hz) : round(row.end_s * rate_hz)]
        mel = np.log(librosa.feature.melspectrogram(y=call, sr=rate_hz, n_fft=512, hop_length=160, n_mels=64) + 1e-8)
        about_mean = mel - mel.mean(1, keepdims=True)
        steps = [part.mean(1) for part in np.array_split(about_mean, 8, axis=1)]
        rhythm = 3 * np.log((np.abs(np.fft.rfft(about_mean, 128)[:, :32]) ** 2).sum(0) + 1e-3)
        means.append(np.concatenate([mel.mean(1), mel.std(1)]))
        ordered.append(np.concatenate([means[-1], *steps, rhythm]))

    def across_sites(features: list[np.ndarray], inverse_penalty: float) -> float:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=2000))
        guess = cross_val_predict(probe, np.array(features), labels, groups=sites, cv=GroupKFold(5))
        return balanced_accuracy_score(labels, guess)

    assert 0.4 < across_sites(means, 0.1) < 0.7
    assert across_sites(ordered, 0.01) > 0.8
