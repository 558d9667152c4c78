"""Folders in the layouts of others: ANIMAL-SPOT, ESC-50, AudioFolder, BirdNET's training folders."""

import json

import numpy as np
import pandas as pd
import pytest
from annotated import auto, rows_of, wav
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorep.data.audio import probe, read
from audiorep.data.formats.animal_spot import NAME, AnimalSpot
from audiorep.data.formats.audio_folder import AudioFolder
from audiorep.data.formats.birdnet_folders import BirdNETFolders, folder_of, label_of
from audiorep.data.formats.clips import write_clip
from audiorep.data.formats.esc50 import Esc50
from audiorep.data.formats.folders import ClassFolders
from audiorep.data.formats.writers import WRITERS
from audiorep.data.guano import write_guano
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudioError, AudiorepError

# ---- ANIMAL-SPOT


def test_the_names_of_animal_spot_tell_class_tape_and_place(tmp_path, caplog):
    caplog.set_level("INFO")
    wav(tmp_path / "call-Orca-A12_929_2015_Rec-031-2018-10-19-06-59-59-ASWMUX231648_2949326_2949919.wav")
    wav(tmp_path / "noise_1_2016_T2_0_2000.wav")
    frame = read_corpus(tmp_path, auto()).frame
    assert "read as clips of ANIMAL-SPOT" in caplog.text
    assert frame["label"].tolist() == ["call", "noise"]
    assert frame["group"].tolist() == ["2015_Rec-031-2018-10-19-06-59-59-ASWMUX231648", "2016_T2"]
    assert frame["info"].tolist() == ["Orca-A12", ""] and frame["id"].tolist() == ["929", "1"]
    assert frame["tape_start_s"].tolist() == [2949.326, 0.0] and frame["tape_end_s"].tolist() == [2949.919, 2.0]
    assert frame["start_s"].tolist() == [0, 0] and frame["end_s"].tolist() == [2, 2]


def test_a_name_that_is_not_animal_spots_is_said(tmp_path):
    wav(tmp_path / "call-x_1_2016_T2_0_2000.wav")
    wav(tmp_path / "song.wav")
    assert not AnimalSpot().recognises(tmp_path, None)
    with pytest.raises(AudiorepError, match=r"song\.wav: its name is not CLASS-INFO_ID_YEAR"):
        read_corpus(tmp_path, AnimalSpot())


def test_clips_keep_their_place_on_the_tape_when_they_are_cut_again(tmp_path):
    source = wav(tmp_path / "call-x_1_2016_T2_5000_7000.wav")
    row = {
        "path": str(source),
        "label": "call",
        "tape": "T2",
        "year": "2016",
        "id": "1",
        "tape_start_s": 5.0,
        "tape_end_s": 7.0,
    }
    frame = pd.DataFrame(
        [
            row | {"start_s": 0.0, "end_s": 2.0},
            row | {"start_s": 0.5, "end_s": 1.0},
            row | {"start_s": 0.5, "end_s": 1.0},
        ]
    )
    names = [path.name for path in WRITERS["animal_spot"](frame, tmp_path / "out")]
    assert names == ["call_1_2016_T2_5000_7000.wav", "call_1_2016_T2_5500_6000.wav", "call_1-2_2016_T2_5500_6000.wav"]
    with pytest.raises(AudiorepError, match="the class may hold no -"):
        WRITERS["animal_spot"](frame.assign(label="a_b"), tmp_path / "other")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_name_is_one_of_animal_spot_or_not(name):
    match = NAME.fullmatch(name)
    assert match is None or (int(match["start"]) >= 0 and match["label"])


# ---- ESC-50


def esc50(folder, rows=(("1-100032-A-0.wav", 1, 0, "dog"), ("2-7-B-14.wav", 2, 14, "chirping_birds"))):
    for name, *_ in rows:
        wav(folder / "audio" / name)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        + "".join(f"{','.join(map(str, row))},True,,A\n" for row in rows)
    )
    return folder


@pytest.mark.parametrize("given", ["", "meta/esc50.csv", "audio"])
def test_esc50_keeps_fold_and_target_and_groups_by_source(tmp_path, given, caplog):
    caplog.set_level("INFO")
    frame = read_corpus(esc50(tmp_path) / given, auto()).frame
    assert "read as the layout of ESC-50" in caplog.text
    assert frame["label"].tolist() == ["dog", "chirping_birds"]
    assert frame["fold"].tolist() == ["1", "2"] and frame["target"].tolist() == ["0", "14"]
    assert frame["group"].tolist() == ["100032", "7"]


def test_clips_that_esc50_names_but_nobody_has_are_quarantined(tmp_path):
    folder = esc50(tmp_path)
    (folder / "audio" / "2-7-B-14.wav").unlink()
    manifest = read_corpus(folder, Esc50())
    assert len(manifest) == 1 and manifest.quarantined[0].path.endswith("2-7-B-14.wav")
    (folder / "meta" / "esc50.csv").write_text("filename,category\n../../etc/passwd,x\n")
    with pytest.raises(AudiorepError, match=r"esc50\.csv: row 2: column 'filename' is no file's name"):
        read_corpus(folder, Esc50())


# ---- AudioFolder


def test_audio_folder_with_lines_of_json(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("train/a.wav", "train/sub/b.wav", "test/c.wav"):
        wav(tmp_path / name)
    rows = [
        {"file_name": "a.wav", "label": ["owl", "wren"], "n": 1, "box": {"x": [1]}},
        {"file_name": "sub/b.wav", "label": None, "n": 2.5},
    ]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,Label\nc.wav,rook\n")
    frame = read_corpus(tmp_path, auto()).frame.sort_values("path").reset_index(drop=True)
    assert "read as Hugging Face's AudioFolder" in caplog.text
    assert frame["label"].tolist() == ["rook", "owl|wren", ""] and frame["split"].tolist() == ["test", "train", "train"]
    assert frame["n"].tolist()[1:] == ["1", "2.5"] and frame["box"][1] == '{"x": [1]}'


def test_one_table_for_all_splits_and_a_label_of_another_name(tmp_path):
    for name in ("train/a.wav", "dev/b.wav"):
        wav(tmp_path / name)
    (tmp_path / "metadata.csv").write_text(
        "kind,file_name,path,start_s,end_s\nowl,train/a.wav,old,0.5,1\nrook,dev/b.wav,old,,\n"
    )
    frame = read_corpus(tmp_path, AudioFolder("kind")).frame
    assert frame["split"].tolist() == ["train", "validation"] and frame["label"].tolist() == ["owl", "rook"]
    assert frame["start_s"].tolist() == [0.5, 0.0] and frame["path_2"].tolist() == ["old", "old"]
    assert read_corpus(tmp_path / "metadata.csv", auto()).frame["label"].tolist() == ["", ""]
    with pytest.raises(AudiorepError, match=r"metadata\.csv: no column 'Kind of'; there are: kind, file_name"):
        read_corpus(tmp_path, AudioFolder("Kind of"))


def test_splits_with_class_folders_are_an_audio_folder(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("train/owl/1.wav", "train/rook/1.wav", "valid/owl/2.wav"):
        wav(tmp_path / name)
    frame = read_corpus(tmp_path, auto()).frame
    assert "AudioFolder" in caplog.text
    assert list(zip(frame["label"], frame["split"], strict=True)) == [
        ("owl", "train"),
        ("rook", "train"),
        ("owl", "validation"),
    ]


@pytest.mark.parametrize("content,words", [
    ('{"file_name": "a.wav"}\n\n[1]\n', r"metadata\.jsonl: line 3 is no JSON object"),
    ('{"file_name": ""}\n', "row 1: column 'file_name' is empty"), ('{"name": "a.wav"}\n', "column 'file_name' is missing"),
])  # fmt: skip
def test_a_bad_line_of_metadata_is_named(tmp_path, content, words):
    wav(tmp_path / "a.wav")
    (tmp_path / "metadata.jsonl").write_text(content)
    with pytest.raises(AudiorepError, match=words):
        read_corpus(tmp_path, AudioFolder())


def test_metadata_of_other_kinds_is_left_alone(tmp_path):
    wav(tmp_path / "x" / "a.wav")
    wav(tmp_path / "y" / "b.wav")
    (tmp_path / "metadata.csv").write_text("site,lat\nx,1\n")
    assert rows_of(read_corpus(tmp_path, auto())) == [("a.wav", 0, 2, "x"), ("b.wav", 0, 2, "y")]


# ---- BirdNET's training folders


def test_commas_and_minus_signs_in_folders(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("Owl/1.wav", "Owl,Wren/2.wav", "-Owl/3.wav", "Noise/4.wav", "Wren, -Rook/5.wav"):
        wav(tmp_path / name)
    manifest = read_corpus(tmp_path, auto())
    assert "read as training folders of BirdNET" in caplog.text
    assert sorted(row[3] for row in rows_of(manifest)) == ["-Owl", "Owl", "Owl|Wren", "Wren|-Rook", "noise"]
    assert folder_of("a|-b") == "a,-b" and label_of("a,-b") == "a|-b"


def test_plain_class_folders_stay_class_folders(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("owl/1.wav", "noise/2.wav"):
        wav(tmp_path / name)
    assert not BirdNETFolders().recognises(tmp_path, None) and ClassFolders().recognises(tmp_path, None)
    assert [row[3] for row in rows_of(read_corpus(tmp_path, auto()))] == ["noise", "owl"]
    assert "read as class folders" in caplog.text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_any_folder_is_a_label_and_comes_back_as_the_same(name):
    if label := label_of(name.replace("|", "")):
        try:
            assert label_of(folder_of(label)) == label
        except AudiorepError:
            assert "/" in label or "\0" in label or any(part.startswith(".") for part in label.split("|"))


@pytest.mark.parametrize("label", ["a,b", "a/b", "..", ".x"])
def test_labels_that_no_folder_can_bear_are_refused(tmp_path, label):
    frame = pd.DataFrame({"path": [str(wav(tmp_path / "a.wav"))], "start_s": [0.0], "end_s": [1.0], "label": [label]})
    with pytest.raises(AudiorepError, match="cannot be a folder"):
        WRITERS["birdnet_folders"](frame, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- clips


def test_a_whole_recording_is_copied_and_a_stretch_is_cut_to_the_sample(tmp_path):
    source = wav(tmp_path / "a.wav")
    whole = write_clip(pd.Series({"path": str(source), "start_s": 0.0, "end_s": 2.0}), tmp_path / "whole.v1")
    assert whole.name == "whole.v1.wav" and whole.read_bytes() == source.read_bytes()
    clip = write_clip(pd.Series({"path": str(source), "start_s": 0.25, "end_s": 0.5}), tmp_path / "clip")
    np.testing.assert_array_equal(read(clip, 0, 2000), read(source, 2000, 2000))
    with pytest.raises(AudioError, match="does not lie in the file"):
        write_clip(pd.Series({"path": str(source), "start_s": 3.0, "end_s": 4.0}), tmp_path / "none")


def test_a_clip_of_a_slowed_down_recording_has_the_true_rate(tmp_path):
    source = wav(tmp_path / "bat.wav", 2.0, 25600)
    write_guano(source, source, {"TE": "10"})
    clip = write_clip(pd.Series({"path": str(source), "start_s": 0.05, "end_s": 0.15}), tmp_path / "clip")
    info = probe(clip)
    assert (info.rate_hz, info.frames, info.time_expansion) == (256_000, 25_600, 1.0)
    np.testing.assert_array_equal(read(clip, 0, 25_600), read(source, 12_800, 25_600))
