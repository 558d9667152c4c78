"""The manifest: tables as people write them are read, mistakes are named by file, row and column, nothing is lost."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiorep.data.formats.table import Table
from audiorep.data.manifest import Manifest, read_corpus, scan, write_manifest, write_quarantine
from audiorep.errors import AudiorepError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings of one second."""
    for name in ("a.wav", "b.wav", "c.wav"):
        soundfile.write(tmp_path / name, np.full(8000, 0.1), 8000)
    return tmp_path


def read(folder: Path, text: str, name: str = "calls.csv", **keys: str) -> Manifest:
    (folder / name).write_text(text, encoding="utf-8")
    return read_corpus(folder / name, Table(**keys))


def error_of(folder: Path, text: str, name: str = "calls.csv", **keys: str) -> str:
    with pytest.raises(AudiorepError) as caught:
        read(folder, text, name, **keys)
    text = str(caught.value)
    assert "\n" not in text and name in text
    return text


@pytest.mark.parametrize("column", ["path", "file", "filename", "file_name", "Path", " FILE ", "File_Name"])
def test_the_path_column_goes_by_four_names_in_any_case(folder, column):
    manifest = read(folder, f"Label,{column}\nx,a.wav\ny,b.wav\n")
    assert manifest.frame["path"].tolist() == [str(folder / "a.wav"), str(folder / "b.wav")]
    assert manifest.frame["label"].tolist() == ["x", "y"]


def test_headers_in_any_case_and_order_behind_a_byte_order_mark(folder):
    manifest = read(folder, "﻿LABEL,End_S,START_S,Group,FileName\nx,0.75,0.25,g,a.wav\n")
    row = manifest.frame.iloc[0]
    assert (row["start_s"], row["end_s"], row["label"], row["group"]) == (0.25, 0.75, "x", "g")
    assert manifest.durations_s.tolist() == [0.5]


def test_tab_separated_tables_are_read(folder):
    manifest = read(folder, "path\tlabel\na.wav\tx, or y\n", "calls.tsv")
    assert manifest.frame["label"].tolist() == ["x, or y"]


@pytest.mark.parametrize(
    "header, right",
    [
        ("path,start,end_s,label", "start_s"),
        ("path,start_s,stop,label", "end_s"),
        ("path,onset_s,offset_s", "start_s"),
        ("path,start_s,end_s,lable", "label"),
        ("path,Labels", "label"),
    ],
)
def test_a_misspelt_column_is_refused_and_not_passed_over(folder, header, right):
    row = ",".join(["a.wav", "0.1", "0.5", "x"][: header.count(",") + 1])
    assert f"and none '{right}': if that is meant, rename it" in error_of(folder, f"{header}\n{row}\n")


def test_columns_that_are_like_others_are_kept_where_these_are_there(folder):
    frame = read(folder, "path,start_s,end_s,label,start,labels,site\na.wav,0.1,0.5,x,noon,y,s\n").frame
    assert frame.loc[0, ["start", "labels", "site"]].tolist() == ["noon", "y", "s"]


def test_columns_between_semicolons_are_named_as_that(folder):
    assert "separated by semicolons" in error_of(folder, "path;start_s;end_s\na.wav;0,1;0,5\n")


@pytest.mark.parametrize("text", ["path,label\n", "path,start_s,end_s,label,group\n", "path,label\n\n\n"])
def test_an_empty_table_is_named(folder, text):
    assert "no rows" in error_of(folder, text)


def test_a_file_without_a_single_line_is_named(folder):
    assert "not readable as a table" in error_of(folder, "")


def test_extra_columns_are_kept_as_they_are(folder):
    manifest = read(folder, "path,split,Individual,low_hz\na.wav,test,007,1.50\nb.wav,,NA,\n")
    assert manifest.frame["split"].tolist() == ["test", ""]
    assert manifest.frame["individual"].tolist() == ["007", "NA"]
    assert manifest.frame["low_hz"].tolist() == ["1.50", ""]


def test_words_that_pandas_takes_for_nothing_are_labels(folder):
    manifest = read(folder, "path,label\na.wav,NA\nb.wav,nan\nc.wav,None\n")
    assert manifest.frame["label"].tolist() == ["NA", "nan", "None"]


def test_a_table_without_a_path_column_is_named_with_its_columns(folder):
    text = error_of(folder, "recording,label\na.wav,x\n")
    assert "recording, label" in text and "'path'" in text


def test_an_empty_path_is_named_by_its_row(folder):
    text = error_of(folder, "path,label\na.wav,x\n,y\n")
    assert "row 3" in text and "'path'" in text


@pytest.mark.parametrize("bad", ["soon", "0:01", "-1", "inf", "1,5"])
@pytest.mark.parametrize("column", ["start_s", "end_s"])
def test_a_time_that_is_none_is_named_by_file_row_and_column(folder, bad, column):
    text = error_of(folder, f'path,{column},label\na.wav,0.5,x\nb.wav,0.5,x\nc.wav,"{bad}",x\n')
    assert "row 4" in text and f"'{column}'" in text and bad.lstrip("-") in text


@pytest.mark.parametrize("start,end", [("0.5", "0.4"), ("0.5", "0.5"), ("", "0")])
def test_an_end_that_is_not_after_the_start_is_named_by_its_row(folder, start, end):
    text = error_of(folder, f"path,start_s,end_s\na.wav,0,0.5\nb.wav,{start},{end}\n")
    assert "row 3" in text and "end_s" in text and "start_s" in text


def test_blank_lines_count_as_rows_of_the_file(folder):
    text = error_of(folder, "path,start_s\na.wav,0\n\n\nb.wav,oops\n")
    assert "row 5" in text
    assert len(read(folder, "path,label\na.wav,x\n\nb.wav,y\n\n")) == 2


def test_rows_with_more_cells_than_the_header_are_refused_not_shifted(folder):
    assert "more fields" in error_of(folder, "path,label\na.wav,x,\nb.wav,y,\n")
    assert "line 3" in error_of(folder, "path,label\na.wav,x\nb,1.wav,y\n")


def test_a_table_that_is_not_utf8_is_named(folder):
    (folder / "latin.csv").write_bytes("path,label\na.wav,Bläßhuhn\n".encode("latin-1"))
    with pytest.raises(AudiorepError, match=r"latin\.csv: not readable as a table"):
        read_corpus(folder / "latin.csv", Table())


def test_two_columns_of_one_name_are_refused(folder):
    assert "two columns are called 'label'" in error_of(folder, "path,label,Label\na.wav,x,y\n")


def test_label_and_group_are_taken_from_the_columns_named(folder):
    text = "path,Label,Species,group,Bird\na.wav,song,sparrow,g1,b1\nb.wav,call,finch,g1,b2\n"
    manifest = read(folder, text, label_column="Species", group_column="Bird")
    assert manifest.frame["label"].tolist() == ["sparrow", "finch"]
    assert manifest.frame["group"].tolist() == ["b1", "b2"]
    assert "no column 'Kind'" in error_of(folder, text, label_column="Kind")


def test_a_row_past_the_end_of_its_file_is_quarantined_with_its_reason(folder):
    manifest = read(folder, "path,start_s,end_s,label\na.wav,0,0.5,x\nb.wav,0.5,1.2,y\nc.wav,1.5,,z\na.wav,0.5,1,w\n")
    assert manifest.frame["label"].tolist() == ["x", "w"]
    assert [(Path(q.path).name, q.row) for q in manifest.quarantined] == [("b.wav", 1), ("c.wav", 2)]
    assert "0.5 to 1.2 s lies past the end of the file (1 s)" in manifest.quarantined[0].reason


def test_an_end_slightly_past_the_end_of_the_file_is_cut(folder):
    manifest = read(folder, "path,start_s,end_s\na.wav,0.5,1.02\n")
    assert manifest.frame["end_s"].tolist() == [1.0] and not manifest.quarantined


def test_no_times_mean_the_whole_file(folder):
    manifest = read(folder, "path,start_s,end_s\na.wav,,\nb.wav,0.25,\nc.wav,,0.75\n")
    assert manifest.frame["start_s"].tolist() == [0.0, 0.25, 0.0]
    assert manifest.frame["end_s"].tolist() == [1.0, 1.0, 0.75]
    assert read(folder, "path\na.wav\n").durations_s.tolist() == [1.0]


def test_files_that_cannot_be_used_are_quarantined_and_the_others_stay(folder):
    (folder / "noise.wav").write_bytes(np.random.default_rng(0).bytes(999))
    (folder / "empty.wav").write_bytes(b"")
    whole = (folder / "c.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    manifest = read(folder, "path,label\na.wav,x\ngone.wav,x\nnoise.wav,x\nempty.wav,x\ncut.wav,x\nb.wav,y\n")
    assert [Path(path).name for path in manifest.frame["path"]] == ["a.wav", "b.wav"]
    reasons = {Path(q.path).name: q.reason for q in manifest.quarantined}
    assert list(reasons) == ["gone.wav", "noise.wav", "empty.wav", "cut.wav"]
    for name, word in [("gone", "no such"), ("noise", "not readable"), ("empty", "0 bytes"), ("cut", "truncated")]:
        assert word in reasons[f"{name}.wav"]
    write_quarantine(manifest.quarantined, folder / "out" / "quarantine.csv")
    written = pd.read_csv(folder / "out" / "quarantine.csv")
    assert written["reason"].tolist() == list(reasons.values())


def test_a_corpus_of_which_nothing_can_be_used_is_an_error_that_tells_the_first_reason(folder):
    with pytest.raises(AudiorepError, match=r"none of the 2 rows can be used; the first: .*gone\.wav: no such file"):
        read(folder, "path\ngone.wav\nlost.wav\n")


def test_a_corpus_or_annotations_that_do_not_exist_are_named(folder):
    with pytest.raises(AudiorepError, match=r"corpus=.*nowhere"):
        read_corpus(folder / "nowhere", Table())
    with pytest.raises(AudiorepError, match=r"annotations=.*nowhere"):
        read_corpus(folder, Table(), folder / "nowhere")


def test_relative_paths_are_relative_to_the_manifest(folder, monkeypatch):
    (folder / "tables").mkdir()
    monkeypatch.chdir(folder / "tables")
    (folder / "tables" / "calls.csv").write_text("path\n../a.wav\n" + f"{folder / 'b.wav'}\n", encoding="utf-8")
    for source in (Path("calls.csv"), folder / "tables" / "calls.csv"):
        manifest = read_corpus(source, Table())
        assert manifest.frame["path"].tolist() == [str(folder / "a.wav"), str(folder / "b.wav")]


def test_a_recording_is_its_own_group_where_none_is_named(folder):
    manifest = read(folder, "path,group\na.wav,\na.wav,\nb.wav,g\n")
    assert manifest.frame["group"].tolist() == [str(folder / "a.wav")] * 2 + ["g"]
    assert read(folder, "path\na.wav\nb.wav\n").frame["group"].nunique() == 2


def test_the_commonest_rate_is_that_of_most_rows_not_of_most_files(folder):
    soundfile.write(folder / "high.wav", np.full(48000, 0.1), 48000)
    manifest = read(folder, "path\na.wav\nb.wav\n" + "high.wav\n" * 3)
    assert manifest.common_rate_hz == 48000
    assert manifest.take(np.array([0, 1])).common_rate_hz == 8000


def test_a_manifest_written_beside_its_recordings_may_move_with_them(folder):
    manifest = read(folder, "path,label\na.wav,x\nb.wav,y\n")
    write_manifest(manifest.frame, folder / "out.csv")
    written = pd.read_csv(folder / "out.csv")
    assert written["path"].tolist() == ["a.wav", "b.wav"]
    moved = folder.rename(folder.with_name(folder.name + "_moved"))
    assert len(read_corpus(moved / "out.csv", Table())) == 2


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
LABELS = st.one_of(
    WORDS,
    st.sampled_from(['say "hi"', "a,b", "a|-b", "-a", "#1", "'", '"', "NA", "nan", "007", "1e5", "Żuraw ♂", "=1", ";\\"]),
    st.lists(WORDS, min_size=2, max_size=3).map("|".join),
    st.builds("-{}".format, WORDS),
).map(str.strip)  # fmt: skip


@pytest.fixture(scope="module")
def one_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one").resolve() / "a, 'b' ñç.wav"
    soundfile.write(path, np.full(800, 0.1), 8000)
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(LABELS, min_size=1, max_size=6), data=st.data())
def test_labels_groups_and_times_survive_writing_and_reading(one_recording, ending, labels, data):
    n = len(labels)
    groups = data.draw(st.lists(LABELS.filter(bool), min_size=n, max_size=n))
    starts = data.draw(st.lists(st.integers(0, 799), min_size=n, max_size=n))
    frame = pd.DataFrame(
        {
            "path": str(one_recording), "start_s": [s / 8000 for s in starts], "end_s": 0.1, "label": labels,
            "group": groups, "note": data.draw(st.lists(LABELS, min_size=n, max_size=n)),
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(frame, Path(folder) / f"out{ending}")
        again = read_corpus(Path(folder) / f"out{ending}", Table())
    assert not again.quarantined
    for column in ("path", "label", "group", "note"):
        assert again.frame[column].tolist() == frame[column].tolist()
    assert np.rint(again.frame["start_s"] * 8000).astype(int).tolist() == starts


def test_labels_of_several_lines_survive_writing_and_reading(folder):
    labels = ["two\nlines", "windows\r\nlines", "tab\tstop"]
    frame = pd.DataFrame({"path": str(folder / "a.wav"), "start_s": 0.0, "end_s": 1.0, "label": labels, "group": "g"})
    for name in ("out.csv", "out.parquet"):
        write_manifest(frame, folder / name)
        assert read_corpus(folder / name, Table()).frame["label"].tolist() == labels


def test_times_written_as_csv_keep_their_sample_at_384_khz():
    frames = np.random.default_rng(0).integers(0, 384000 * 3600, 500)
    with tempfile.TemporaryDirectory() as folder:
        frame = pd.DataFrame({"path": "a.wav", "start_s": frames / 384000, "end_s": 3600.0})
        write_manifest(frame, Path(folder) / "out.csv")
        written = pd.read_csv(Path(folder) / "out.csv")["start_s"]
    np.testing.assert_array_equal(np.rint(written * 384000).astype(int), frames)


def test_parquet_written_by_others_is_read_with_missing_values_and_its_own_index(folder):
    table = pd.DataFrame({"file": ["a.wav", "b.wav"], "Label": ["x", None], "start_s": [0.5, np.nan]}, index=[7, 9])
    table.to_parquet(folder / "calls.parquet")
    frame = read_corpus(folder / "calls.parquet", Table()).frame
    assert frame["label"].tolist() == ["x", ""] and frame["start_s"].tolist() == [0.5, 0.0]
    table.assign(start_s=[0.0, -1.0]).to_parquet(folder / "calls.parquet")
    with pytest.raises(AudiorepError, match=r"row 3: column 'start_s'"):
        read_corpus(folder / "calls.parquet", Table())


def test_scanning_reads_each_header_once_and_tells_of_progress(folder):
    seen: list[tuple[int, int]] = []
    frame = read(folder, "path,start_s,end_s\na.wav,0,0.5\na.wav,0.5,1\nb.wav,0,1\n").frame
    scan(frame, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.corpora
@pytest.mark.parametrize(
    "name,rows,classes", [("fsdd", 3000, 10), ("finch_bird0", 7652, 9), ("killer_whale_catalogue", 136, 26)]
)
def test_the_labels_of_real_corpora_are_read_without_quarantine(corpora, name, rows, classes):
    manifest = read_corpus(corpora / name / "labels.csv", Table())
    assert len(manifest) == rows and not manifest.quarantined
    assert manifest.frame["label"].nunique() == classes
    assert (manifest.durations_s > 0).all()
