"""Annotation formats: Raven tables as Raven writes them, class folders, plain recordings, and the choice among them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate

from audiorep.composing import compose
from audiorep.data.formats.folders import ClassFolders, Recordings
from audiorep.data.formats.raven import Raven, read_table
from audiorep.data.formats.table import Table
from audiorep.data.manifest import Format, Manifest, read_corpus
from audiorep.errors import AudiorepError

CORE = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]


def wav(path: Path, seconds: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * 8000), 0.1), 8000)
    return path


def table(path: Path, rows: list[tuple[float, float, str]], extra: dict[str, list[str]] | None = None,
          label: str | None = "Species", view: str = "Spectrogram 1") -> Path:  # fmt: skip
    """A selection table of (begin, end, label)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [CORE + list(extra or {}) + ([label] if label else [])]
    for i, (begin, end, name) in enumerate(rows):
        cells = [str(i + 1), view, "1", f"{begin}", f"{end}", "100.0", "2000.0"]
        lines.append(cells + [column[i] for column in (extra or {}).values()] + ([name] if label else []))
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def rows_of(manifest: Manifest) -> list[tuple[str, float, float, str]]:
    frame = manifest.frame
    return [
        (Path(path).name, start, end, label)
        for path, start, end, label in zip(frame["path"], frame["start_s"], frame["end_s"], frame["label"], strict=True)
    ]


def auto() -> Format:
    return instantiate(compose("index", ["recordings=x", "out=x.csv"]).format)


@pytest.mark.parametrize(
    "name", ["song.Table.1.selections.txt", "song.selections.txt", "song.txt", "SONG.Table.2.selections.TXT"]
)
def test_a_table_belongs_to_the_recording_whose_name_it_bears(tmp_path, name):
    wav(tmp_path / "song.wav")
    path = table(tmp_path / name, [(0.1, 0.4, "owl"), (0.5, 0.9, "wren")])
    expected = [("song.wav", 0.1, 0.4, "owl"), ("song.wav", 0.5, 0.9, "wren")]
    assert rows_of(read_corpus(tmp_path, Raven())) == expected
    assert rows_of(read_corpus(tmp_path, Raven(), path)) == expected


def test_dots_in_a_recordings_name_do_no_harm(tmp_path):
    wav(tmp_path / "site.1.wav")
    wav(tmp_path / "site.wav")
    table(tmp_path / "site.1.Table.1.selections.txt", [(0, 1, "owl")])
    assert rows_of(read_corpus(tmp_path, Raven(unannotated=False))) == [("site.1.wav", 0, 1, "owl")]


def test_several_tables_are_read_and_recordings_without_a_table_stay_as_unlabelled_rows(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        wav(tmp_path / name)
    table(tmp_path / "a.Table.1.selections.txt", [(0.1, 0.4, "owl")])
    table(tmp_path / "b.Table.1.selections.txt", [(0.5, 0.9, "wren")])
    labelled = [("a.wav", 0.1, 0.4, "owl"), ("b.wav", 0.5, 0.9, "wren")]
    manifest = read_corpus(tmp_path, Raven())
    assert rows_of(manifest) == [*labelled, ("c.wav", 0.0, 2.0, "")]
    assert manifest.frame["low_hz"].tolist()[:2] == ["100.0", "100.0"]
    assert manifest.frame["group"].tolist() == manifest.frame["path"].tolist()
    assert rows_of(read_corpus(tmp_path, Raven(unannotated=False))) == labelled


def test_tables_may_lie_in_a_folder_of_their_own(tmp_path):
    wav(tmp_path / "audio" / "a.wav")
    table(tmp_path / "tables" / "a.Table.1.selections.txt", [(0.1, 0.4, "owl")])
    assert rows_of(read_corpus(tmp_path / "audio", Raven(), tmp_path / "tables")) == [("a.wav", 0.1, 0.4, "owl")]


def test_recordings_of_one_name_in_several_folders_keep_their_own_tables(tmp_path):
    for site in ("north", "south"):
        wav(tmp_path / site / "0600.wav")
        table(tmp_path / site / "0600.Table.1.selections.txt", [(0, 1, site)])
    manifest = read_corpus(tmp_path, Raven())
    assert [(Path(path).parent.name, label) for path, label in zip(manifest.frame["path"], manifest.frame["label"],
            strict=True)] == [("north", "north"), ("south", "south")]  # fmt: skip


def test_a_table_that_could_belong_to_two_recordings_is_an_error(tmp_path):
    for site in ("north", "south"):
        wav(tmp_path / "audio" / site / "0600.wav")
    path = table(tmp_path / "tables" / "0600.Table.1.selections.txt", [(0, 1, "owl")])
    with pytest.raises(AudiorepError, match=r"2 recordings are called 0600\.wav"):
        read_corpus(tmp_path / "audio", Raven(), path)


def test_waveform_and_spectrogram_rows_of_one_selection_are_one_call(tmp_path):
    wav(tmp_path / "a.wav")
    path = table(tmp_path / "a.Table.1.selections.txt", [(0.1, 0.4, "owl"), (0.5, 0.9, "wren")])
    header, *rows = path.read_text().splitlines()
    both = [line for row in rows for line in (row.replace("Spectrogram 1", "Waveform 1"), row)]
    path.write_text("\n".join([header, *both]) + "\n")
    assert rows_of(read_corpus(tmp_path, Raven())) == [("a.wav", 0.1, 0.4, "owl"), ("a.wav", 0.5, 0.9, "wren")]


def test_two_selections_at_the_same_time_stay_two(tmp_path):
    wav(tmp_path / "a.wav")
    table(tmp_path / "a.Table.1.selections.txt", [(0.1, 0.4, "owl"), (0.1, 0.4, "owl")])
    assert len(read_corpus(tmp_path, Raven())) == 2


@pytest.mark.parametrize("paths", ["Begin File", "Begin Path"])
def test_a_table_over_several_files_places_its_calls_by_file_offset(tmp_path, paths):
    for name in ("a.wav", "b.wav"):
        wav(tmp_path / name)
    names = ["a.wav", "B.WAV", "b.wav"]
    if paths == "Begin Path":
        names = [f"D:\\field\\day 1\\{name}" for name in names]
    extra = {paths: names, "File Offset (s)": ["0.25", "0.5", "1.5"]}
    table(tmp_path / "all.txt", [(0.25, 0.75, "owl"), (2.5, 3.0, "wren"), (3.5, 3.75, "owl")], extra)
    expected = [("a.wav", 0.25, 0.75, "owl"), ("b.wav", 0.5, 1.0, "wren"), ("b.wav", 1.5, 1.75, "owl")]
    assert rows_of(read_corpus(tmp_path, Raven())) == expected


def test_begin_path_tells_recordings_of_one_name_apart(tmp_path):
    for site in ("north", "south"):
        wav(tmp_path / site / "0600.wav")
    extra = {
        "Begin File": ["0600.wav"] * 2, "Begin Path": ["C:\\x\\South\\0600.wav", "C:\\x\\North\\0600.wav"],
        "File Offset (s)": ["0", "1"],
    }  # fmt: skip
    table(tmp_path / "all.txt", [(0, 0.5, "owl"), (3, 3.5, "wren")], extra)
    manifest = read_corpus(tmp_path, Raven())
    assert [Path(path).parent.name for path in manifest.frame["path"]] == ["south", "north"]


def test_a_recording_that_a_table_names_but_nobody_has_is_quarantined_under_its_name(tmp_path):
    wav(tmp_path / "a.wav")
    extra = {"Begin File": ["a.wav", "Lost.wav"], "File Offset (s)": ["0", "0"]}
    table(tmp_path / "all.txt", [(0, 0.5, "owl"), (2, 2.5, "owl")], extra)
    manifest = read_corpus(tmp_path, Raven())
    assert len(manifest) == 1
    assert [Path(q.path).name for q in manifest.quarantined] == ["Lost.wav"]


@pytest.mark.parametrize("column", ["Species", "Annotation", "TYPE", "Common Name", "Kind of noise"])
def test_the_label_column_is_found(tmp_path, column):
    wav(tmp_path / "a.wav")
    table(tmp_path / "a.selections.txt", [(0.1, 0.4, " owl ")], label=column)
    assert rows_of(read_corpus(tmp_path, Raven())) == [("a.wav", 0.1, 0.4, "owl")]


def test_the_label_column_may_be_told_and_the_other_columns_are_kept(tmp_path):
    wav(tmp_path / "a.wav")
    table(tmp_path / "a.selections.txt", [(0.1, 0.4, "owl")], {"Who": ["Ann"], "Mood": ["sad"]})
    manifest = read_corpus(tmp_path, Raven(label_column="mood"))
    assert manifest.frame["label"].tolist() == ["sad"]
    assert manifest.frame["species"].tolist() == ["owl"] and manifest.frame["who"].tolist() == ["Ann"]


def test_a_label_column_that_cannot_be_told_is_an_error_that_lists_the_columns(tmp_path):
    path = table(tmp_path / "a.txt", [(0.1, 0.4, "owl")], {"Who": ["Ann"]}, label="Mood")
    with pytest.raises(AudiorepError, match=r"a\.txt: cannot tell .*label_column=NAME.*who, mood"):
        read_table(path)
    with pytest.raises(AudiorepError, match=r"a\.txt: .*label_column"):
        read_table(path, "Colour")


@pytest.mark.parametrize("column", ["Begin Time (s)", "End Time (s)"])
def test_a_missing_time_column_is_named(tmp_path, column):
    path = table(tmp_path / "a.txt", [(0.1, 0.4, "owl")])
    path.write_text(path.read_text().replace(column, "Peak Time (s)"))
    with pytest.raises(AudiorepError, match=rf"a\.txt: column '{column.lower()[:5]}.*is missing"):
        read_table(path)


@pytest.mark.parametrize(
    "old,new,words",
    [
        ("0.9", "late", r"row 4: column 'End Time \(s\)' is no number: 'late'"),
        ("0.5", "", r"row 4: column 'Begin Time \(s\)' is no number"),
        ("0.9", "0.5", r"row 4: column 'End Time \(s\)' is not after"),
    ],
)
def test_a_bad_time_is_named_by_table_row_and_column(tmp_path, old, new, words):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav")
    table(tmp_path / "a.Table.1.selections.txt", [(0.1, 0.4, "owl")] * 7)
    path = table(tmp_path / "b.Table.1.selections.txt", [(0.1, 0.4, "owl"), (0.5, 0.9, "wren")])
    lines = path.read_text().splitlines()
    # as Raven writes it: the first selection in both views, so that the row in the file is not that in the result
    lines[2:] = [lines[1].replace("Spectrogram", "Waveform"), lines[2].replace(f"\t{old}\t", f"\t{new}\t")]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AudiorepError, match=r"b\.Table\.1\.selections\.txt: " + words):
        read_corpus(tmp_path, Raven())


def test_a_table_without_rows_leaves_its_recording_unlabelled(tmp_path):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav")
    table(tmp_path / "a.Table.1.selections.txt", [])
    table(tmp_path / "b.Table.1.selections.txt", [(0, 1, "owl")])
    assert rows_of(read_corpus(tmp_path, Raven())) == [("b.wav", 0, 1, "owl"), ("a.wav", 0, 2, "")]


def test_a_byte_order_mark_and_headers_of_any_case_do_no_harm(tmp_path):
    wav(tmp_path / "a.wav")
    path = table(tmp_path / "a.txt", [(0.1, 0.4, "owl")])
    header, row = path.read_text().splitlines()
    path.write_text(f"﻿{header.upper()}\n{row}\n", encoding="utf-8")
    assert rows_of(read_corpus(tmp_path, auto())) == [("a.wav", 0.1, 0.4, "owl")]


def test_a_table_without_a_recording_is_named(tmp_path):
    wav(tmp_path / "a.wav")
    table(tmp_path / "z.Table.1.selections.txt", [(0, 1, "owl")])
    with pytest.raises(AudiorepError, match=r"z\.Table\.1\.selections\.txt: no recording of that name"):
        read_corpus(tmp_path, Raven())


def test_class_folders_give_the_folders_name_as_label(tmp_path):
    for name in ("owl/1.wav", "owl/2.wav", "wren/1.wav"):
        wav(tmp_path / name)
    (tmp_path / "owl" / "notes.txt").write_text("nothing")
    wav(tmp_path / "owl" / ".hidden.wav")
    manifest = read_corpus(tmp_path, ClassFolders())
    assert rows_of(manifest) == [("1.wav", 0, 2, "owl"), ("2.wav", 0, 2, "owl"), ("1.wav", 0, 2, "wren")]


def test_recordings_beside_class_folders_have_no_label_nor_do_those_of_a_folder_that_says_so(tmp_path):
    for name in ("owl/1.wav", "wren/1.wav", "2.wav", "Unlabelled/3.wav"):
        wav(tmp_path / name)
    manifest = read_corpus(tmp_path, auto())
    assert sorted((name, label) for name, _, _, label in rows_of(manifest)) == [
        ("1.wav", "owl"), ("1.wav", "wren"), ("2.wav", ""), ("3.wav", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names, classes",
    [(("2012-03-23", "2012-03-26"), False), (("120323", "night_120326"), False), (("2011", "2012"), False),
     (("2012-03-23", "owl"), True), (("0", "1"), True), (("12", "13"), True), (("song1", "song2"), True)],
)  # fmt: skip
def test_folders_of_days_are_no_classes(tmp_path, names, classes):
    for name in names:
        wav(tmp_path / name / "1.wav")
    manifest = read_corpus(tmp_path, auto())
    assert manifest.frame["label"].tolist() == (list(names) if classes else ["", ""])
    assert manifest.frame["group"].nunique() == 2


def test_recordings_are_unlabelled_and_grouped_by_folder(tmp_path):
    for name in ("day1/x/1.wav", "day1/x/2.wav", "day2/1.wav"):
        wav(tmp_path / name)
    manifest = read_corpus(tmp_path, Recordings())
    assert manifest.frame["label"].tolist() == [""] * 3
    assert manifest.frame["group"].tolist() == ["day1/x", "day1/x", "day2"]
    flat = read_corpus(tmp_path / "day1" / "x", Recordings())
    assert flat.frame["group"].nunique() == 2
    assert rows_of(read_corpus(tmp_path / "day2" / "1.wav", Recordings())) == [("1.wav", 0, 2, "")]


@pytest.mark.parametrize("kind", ["table", "raven", "class folders", "unlabelled"])
def test_auto_picks_the_format_that_is_there(tmp_path, kind, caplog):
    caplog.set_level("INFO")
    wav(tmp_path / "x" / "a.wav")
    source = tmp_path
    if kind == "table":
        source = tmp_path / "calls.csv"
        source.write_text("path,label\nx/a.wav,owl\n")
    elif kind == "raven":
        wav(tmp_path / "y" / "b.wav")
        table(tmp_path / "x" / "a.selections.txt", [(0, 1, "owl")])
    elif kind == "class folders":
        wav(tmp_path / "y" / "b.wav")
    manifest = read_corpus(source, auto())
    labels = {"table": ["owl"], "raven": ["owl", ""], "class folders": ["x", "y"], "unlabelled": [""]}[kind]
    assert manifest.frame["label"].tolist() == labels
    expected = {"table": Table(), "raven": Raven(), "class folders": ClassFolders(), "unlabelled": Recordings()}[kind]
    assert f"read as {expected.describe()}" in caplog.text


def test_a_text_file_that_is_no_table_is_not_taken_for_one(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "README.txt").write_text("Begin Time (s) is a column of Raven.\n")
    (tmp_path / "binary.txt").write_bytes(np.random.default_rng(0).bytes(500))
    assert not Raven().recognises(tmp_path, None)
    assert rows_of(read_corpus(tmp_path, auto())) == [("a.wav", 0, 2, "")]


def test_a_folder_with_nothing_in_it_that_we_know_is_a_clear_error(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(AudiorepError, match="neither a manifest") as caught:
        read_corpus(tmp_path, auto())
    assert str(tmp_path) in str(caught.value) and "Raven" in str(caught.value)
