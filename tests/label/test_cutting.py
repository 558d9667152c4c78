"""Long recordings without labels: cut, asked about, answered, written, trained on, and gone on with."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from desks import CLASSES
from toy import PARTS, RATE_HZ, model_of, tone

from audiorep.cli import main
from audiorep.data.formats.table import Table
from audiorep.data.manifest import read_corpus
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.label import cutting
from audiorep.label.answer import Answer
from audiorep.label.desk import Desk
from audiorep.label.export import export_manifest
from audiorep.label.journal import answers_since
from audiorep.model import ModelInfo, save_model
from audiorep.verbs.label import defaults, open_desk

LENGTH = RATE_HZ // 2
LONG, CALLS = 5, 24
"""Recordings of 24 calls each, and a little more."""
REST = 800
"""Samples behind the last call: 0.1 s."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings of 12.1 s, one row each; a sixth with a long row of a label, one of noise, and short ones."""
    folder = tmp_path_factory.mktemp("long")
    lines = ["path,start_s,end_s,label,site,kind"]
    for i in range(LONG + 1):
        wave = np.concatenate([*(tone((i + k) % 4, CALLS * i + k) for k in range(CALLS)), np.zeros(REST, np.float32)])
        soundfile.write(folder / f"{i}.wav", wave, RATE_HZ, subtype="PCM_16")
        lines += [f"{i}.wav,,,,s{i},"] if i < LONG else []
    lines += [
        "5.wav,0,6,down,s5,",
        "5.wav,6,8,,s5,noise",
        "5.wav,8,8.4,,s5,",
        "5.wav,9,10,,s5,",
        "5.wav,10.1,11,up,s5,",
    ]
    (folder / "corpus.csv").write_text("\n".join(lines) + "\n")
    return folder / "corpus.csv"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was not trained, of windows of half a second."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    save_model(model_of(SmallCnn(width=8, dim=32)), PARTS, ModelInfo(RATE_HZ, 0.5), folder)
    return folder


def desk_of(corpus: Path, out: Path, *more: str) -> tuple[Desk, Path]:
    return open_desk(defaults(f"corpus={corpus}", f"out={out}", "open=false", *more), out)


def answer(desk: Desk, count: int, prefix: str = "k") -> None:
    """Ask and answer so many clips rightly: the call in the middle of the clip."""
    for i in range(count):
        (one,) = desk.next("ann")
        clip = desk.told.clips[one.row]
        kind = (int(Path(clip.path).stem) + min(CALLS - 1, (clip.start + clip.end) // 2 // LENGTH)) % 4
        desk.answer(Answer(f"{prefix}{i}", clip.id, "ann", labels={CLASSES[kind]: True}, query=one.query))
        if not (i + 1) % 10:
            desk.learn()


def test_long_recordings_are_cut_answered_gone_on_with_written_and_trained_on(corpus, model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    desk, folder = desk_of(corpus, tmp_path, f"model={model}", f"classes=[{','.join(CLASSES)}]")
    assert "5 rows longer than 2 windows cut into 125 clips of 0.5 s" in caplog.text
    clips = list(desk.told.clips)
    mine = [clip for clip in clips if clip.path == "0.wav"]
    starts = [
        *(k * LENGTH for k in range(CALLS)),
        CALLS * LENGTH + REST - LENGTH,
    ]  # the last one ends with the recording
    assert [(clip.start, clip.end) for clip in mine] == [(start, start + LENGTH) for start in starts]
    rest = [(clip.start_s, clip.end_s) for clip in clips if clip.path == "5.wav"]
    assert rest == [(0, 6), (6, 8), (8, 8.4), (9, 10), (10.1, 11)]
    assert desk.told.x.shape == (130, 32) and desk.told.usable.all()
    desk.learn()
    answer(desk, 40)
    right = [
        desk.round.guess(row, 1)[0][0] == CLASSES[(int(clip.path[0]) + clip.start // LENGTH) % 4]
        for row, clip in enumerate(clips)
        if clip.end - clip.start == LENGTH and not clip.start % LENGTH and not desk.record.answered[row]
    ]
    assert np.mean(right) > 0.4  # by chance 0.25: embeddings are of the clips
    desk.close()

    again, _ = desk_of(corpus, tmp_path, f"model={model}")
    assert [clip.id for clip in again.told.clips] == [clip.id for clip in clips]
    assert again.record.tally == {"ann": 40, "corpus": 3}
    again.learn()
    answer(again, 10, "later")
    told = export_manifest(again, folder, tmp_path)
    assert told == {"written": ["labels.csv"], "rows": 130, "answered": 53}
    again.close()
    written = read_corpus(tmp_path / "labels.csv", Table()).frame
    cut = written[written["path"] == str(folder / "2.wav")]
    np.testing.assert_allclose(sorted(cut["start_s"]), [*np.arange(CALLS) / 2, 11.6], atol=1e-6)
    assert set(cut["site"]) == {"s2"} and set(cut["group"]) == {str(folder / "2.wav")}
    assert (written["label"] != "").sum() == 53

    third, _ = desk_of(tmp_path / "labels.csv", tmp_path / "third", f"model={model}")
    assert {clip.place[1:] for clip in third.told.clips} == {clip.place[1:] for clip in clips}
    third.close()
    with pytest.raises(SystemExit) as ended:
        main(["train", f"corpus={tmp_path / 'labels.csv'}", f"init={model}", f"out={tmp_path / 'run'}", "dry_run=true",
              "objective=supervised", "trainer.max_steps=4", "data.workers=0", "logger=none"])  # fmt: skip
    assert not ended.value.code


@pytest.mark.parametrize(
    "settings, clips, said",
    [
        (["clip_s=1"], 5 * 13 + 5, "5 rows longer than 2 clips cut into 65 clips of 1 s"),
        (["clip_s=0.5"], 130, "cut into 125 clips of 0.5 s"),
        (["window.length_s=1.5"], 5 * 9 + 5, "longer than 2 windows cut into 45 clips of 1.5 s"),
        (["clip_s=6.05"], 10, None),  # twice that is no less than the rows
        (["clip_s=null"], 10, None),
        ([], 5 * 3 + 5, "cut into 15 clips of 5 s"),  # without a model: the window that is chosen for the corpus
    ],
)
def test_clips_are_as_long_as_is_said(corpus, tmp_path, caplog, settings, clips, said):
    caplog.set_level(logging.INFO)
    desk, _ = desk_of(corpus, tmp_path, *settings)
    assert len(desk.told.clips) == len(desk.told.x) == clips
    assert ("cut into" in caplog.text) == (said is not None) and (said or "") in caplog.text
    desk.close()


def test_without_a_model_the_window_is_the_clip_that_was_named(corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    desk_of(corpus, tmp_path, "clip_s=0.5")[0].close()
    assert "windows of" not in caplog.text  # none was chosen


@pytest.mark.parametrize(
    "before, now, said",
    [
        ("0.5", "1", "answered in clips of 0.5 s, and now it is cut into clips of 1 s: say clip_s=0.5 to go on"),
        ("0.5", "null", "answered in clips of 0.5 s, and now it is not cut: say clip_s=0.5 to go on"),
        ("null", "0.5", "answered as a whole, and now it is cut into clips of 0.5 s: say clip_s=null to go on"),
    ],
)
def test_a_store_that_was_begun_with_other_clips_is_refused_once_it_holds_answers(corpus, tmp_path, before, now, said):
    window = "window.length_s=0.5"
    desk, _ = desk_of(corpus, tmp_path, f"clip_s={before}", window)
    desk.close()
    desk, _ = desk_of(corpus, tmp_path, f"clip_s={now}", window)  # nothing was answered
    desk.close()
    desk, _ = desk_of(corpus, tmp_path, f"clip_s={before}", window)
    row = next(row for row, clip in enumerate(desk.told.clips) if clip.path == "1.wav")
    desk.answer(Answer("k", desk.told.clips[row].id, "ann", "noise"))
    desk.close()
    with pytest.raises(AudiorepError, match=r"labels\.sqlite: 1\.wav was") as refused:
        desk_of(corpus, tmp_path, f"clip_s={now}", window)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    desk, _ = desk_of(corpus, tmp_path, f"clip_s={before}", window)
    assert len(answers_since(desk.store)) == 4 and desk.record.tally["ann"] == 1
    desk.close()


def test_labelled_rows_of_the_test_side_still_judge_where_rows_before_them_are_cut(corpus, tmp_path):
    own = corpus.with_name("split.csv")
    lines = [
        "path,start_s,end_s,label,part",
        "0.wav,,,,train",
        "1.wav,,,,test",
        "5.wav,0,0.5,up,test",
        "5.wav,1,1.5,down,train",
    ]
    own.write_text("\n".join(lines) + "\n")
    desk, _ = desk_of(own, tmp_path, "split.column=part", "clip_s=0.5")
    judges = [desk.told.clips[row] for row in np.flatnonzero(desk.told.held_out)]
    assert [(clip.path, clip.start_s, clip.end_s) for clip in judges] == [("5.wav", 0.0, 0.5)]
    assert len(desk.told.clips) == 52 and sorted(desk.record.said) == [50, 51]
    desk.close()


def test_the_log_says_what_the_number_of_questions_means(corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    desk_of(corpus, tmp_path, "clip_s=null")[0].close()
    assert "10 questions are chosen at a time (batch=10)" in caplog.text


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "true", ".inf", "[1]"])
def test_a_clip_length_that_is_none_is_refused(corpus, tmp_path, wrong):
    with pytest.raises(AudiorepError, match="clip_s=.*: a length in s above 0, auto, or null"):
        desk_of(corpus, tmp_path, f"clip_s={wrong}")


def test_more_clips_than_can_be_chosen_from_are_refused(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "MOST", 129)
    with pytest.raises(AudiorepError, match=r"clips of 0.5 s would be 130, and 129 is the most .* raise clip_s"):
        desk_of(corpus, tmp_path, "clip_s=0.5")
