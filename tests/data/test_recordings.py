"""Where and when recordings were made: what a table says before headers, headers before names, names before folders."""

import numpy as np
import pandas as pd
import pytest
from annotated import wav

from audiorep.data.guano import write_guano
from audiorep.data.recordings import COLUMNS, from_names, where_and_when
from audiorep.errors import AudiorepError


def test_a_recording_is_described_by_what_tells_most(tmp_path):
    told = wav(tmp_path / "north" / "A_20230514_063000.wav", 2.0)
    write_guano(
        told, told, {"Timestamp": "2023-05-14T04:30:00+00:00", "Make": "M", "Model": "X", "Loc Position": "47.1 8.5"}
    )
    named = wav(tmp_path / "north" / "B_20230514_070000.wav", 1.0)
    frame = where_and_when([told, named, told])
    assert frame.columns.tolist() == COLUMNS and len(frame) == 2
    assert frame["duration_s"].tolist() == [2.0, 1.0]
    assert frame["recorded_at"].tolist() == ["2023-05-14T04:30:00+00:00", "2023-05-14T07:00:00"]
    assert frame["site"].tolist() == ["A", "B"] and frame["recorder"].tolist() == ["M X", ""]
    assert frame["lat"].iloc[0] == 47.1 and np.isnan(frame["lat"].iloc[1])


def test_the_serial_number_of_a_recorder_is_its_site_where_all_tell_one(tmp_path):
    paths = [wav(tmp_path / f"{i}.wav") for i in range(3)]
    for number, path in enumerate(paths[:2]):
        write_guano(path, path, {"Make": "M", "Model": "X", "Serial": f"00{number}"})
    assert where_and_when(paths[:2])["site"].tolist() == ["M X 000", "M X 001"]
    assert where_and_when(paths)["site"].tolist() == [tmp_path.name] * 3  # the third tells none, names neither
    assert where_and_when(paths[:2], site_from="folder")["site"].tolist() == [tmp_path.name] * 2


def test_a_table_comes_first_and_its_blanks_are_filled(tmp_path):
    paths = [wav(tmp_path / f"S_20230514_0{i}0000.wav") for i in range(2)]
    known = pd.DataFrame(
        {"path": [str(paths[0])] * 2 + [str(paths[1])], "site": ["", "pond", ""], "duration_s": [9, 9, ""]}
    )
    frame = where_and_when(paths, known)
    assert frame["site"].tolist() == ["pond", "S"] and frame["duration_s"].tolist() == [9.0, 2.0]


def test_what_cannot_be_read_has_no_duration_and_does_not_decide_about_sites(tmp_path):
    good, broken = wav(tmp_path / "A_20230514_063000.wav"), tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    frame = where_and_when([good, broken])
    assert frame["duration_s"].isna().tolist() == [False, True] and frame["site"].tolist() == ["A", ""]


def test_folders_that_share_a_name_are_told_apart():
    paths = ["/d/a/Data/1.wav", "/d/b/Data/1.wav", "/d/c/1.wav", "rel/1.wav"]
    assert from_names(pd.DataFrame({"path": paths}))["site"].tolist() == ["a/Data", "b/Data", "c", "rel"]


def test_sites_stay_unless_another_source_is_named():
    frame = pd.DataFrame({"path": ["/d/N/A_20230514_063000.wav"], "site": ["pond"]})
    assert from_names(frame)["site"].tolist() == ["pond"]
    assert from_names(frame, "name")["site"].tolist() == ["A"] and from_names(frame, "folder")["site"].tolist() == ["N"]
    models = frame.drop(columns="site").assign(recorder="M X")  # of many recorders
    assert from_names(models)["site"].tolist() == ["A"] and from_names(models, "recorder")["site"].tolist() == ["M X"]
    with pytest.raises(AudiorepError, match="site_from=moon: there are auto, recorder, name, folder"):
        from_names(frame, "moon")
