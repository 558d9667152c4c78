"""Labels in and out: what is written for the house, Raven and Audacity is read again as it was, and imported only once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from audiorep.data.formats.audacity import read_labels
from audiorep.data.formats.raven import Raven, read_table
from audiorep.data.formats.table import Table
from audiorep.data.manifest import Manifest, read_corpus, write_manifest
from audiorep.data.windows import Windows, WindowSpec
from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer
from audiorep.label.clips import Clip, add_clips, get_clips
from audiorep.label.exchange import clips_of, import_labels, settled_table, write_audacity, write_raven
from audiorep.label.journal import add_answer, answers_since, undo
from audiorep.label.settle import majority, settled
from audiorep.label.store import Store, open_store

RATE_HZ = 44100
BOX = {"start_s": 0.62, "end_s": 0.88, "low_hz": 1000.0, "high_hz": 2500.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of two recordings of 2 s in folders, and its manifest."""
    out = tmp_path / "corpus"
    for name in ("north/a.wav", "b.wav"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out / name, np.full(2 * RATE_HZ, 0.1), RATE_HZ)
    rows = [(name, t, t + 0.5, group) for name, group in (("north/a.wav", "g"), ("b.wav", "")) for t in (0, 0.5, 1.1)]
    lines = [f"{name},{start:g},{end:g},,{group},\n" for name, start, end, group in rows]
    (out / "corpus.csv").write_text("path,start_s,end_s,label,group,channel\n" + "".join(lines))
    return out


def corpus(folder: Path, *lines: str) -> Manifest:
    """Of the corpus' own manifest, or of lines of another."""
    path = folder / "corpus.csv"
    if lines:
        path = folder / "labels.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_corpus(path, Table())


@pytest.fixture
def clips(store: Store, folder: Path) -> list[str]:
    return add_clips(store, clips_of(corpus(folder), folder))


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another store, to import into."""
    return open_store(tmp_path / "other.sqlite")


def answered(store: Store, clips: list[str]) -> None:
    """By two annotators: agreed with a box, noise, unknown, a disagreement, one skipped, one adjudicated."""
    for key, clip, annotator, more in [
        ("1", 0, "ann", {"labels": {"owl": True}}),
        ("2", 0, "bob", {"labels": {"owl": True}}),
        ("3", 1, "ann", {"labels": {"wren": True}, **BOX}),
        ("4", 2, "ann", {"kind": "noise"}),
        ("5", 3, "ann", {"kind": "unknown"}),
        ("6", 4, "ann", {"labels": {"owl": True}}),
        ("7", 4, "bob", {"labels": {"wren": True}}),
        ("8", 5, "ann", {"labels": {"owl": True}}),
        ("9", 5, "bob", {"labels": {"wren": True}}),
        ("10", 5, "eve", {"labels": {"rook": True}, "source": "adjudication"}),
    ]:
        add_answer(store, Answer(key, clips[clip], annotator, **more))


def test_clips_lie_where_windows_are_cut_and_keep_no_path_of_this_machine(folder, tmp_path):
    manifest = corpus(folder)
    clips, windows = clips_of(manifest, folder), Windows(manifest, WindowSpec(0.5), RATE_HZ)
    assert [(clip.start, clip.end) for clip in clips] == list(zip(windows.first, windows.last, strict=True))
    assert [(clip.path, clip.group) for clip in clips[::3]] == [("north/a.wav", "g"), ("b.wav", "b.wav")]
    moved = tmp_path / "elsewhere" / "corpus"
    moved.parent.mkdir()
    folder.rename(moved)
    assert clips_of(corpus(moved), moved) == clips
    outside = clips_of(corpus(moved), moved / "north")
    assert outside[0].path == "a.wav"
    assert outside[3].path == str((moved / "b.wav").resolve())
    same = corpus(moved, "path,start_s,end_s,channel", "b.wav,0,0.5,1", "b.wav,0,0.5,", "b.wav,0,0.5,1", "b.wav,,,")
    ids = [clip.id for clip in clips_of(same, moved)]
    assert ids[0] == ids[2] != ids[1] == clips[3].id
    assert clips_of(same, moved)[3].end == 2 * RATE_HZ


def test_what_is_settled_becomes_a_manifest_that_is_read_and_imported_as_it_was(store, clips, folder, tmp_path, other):
    answered(store, clips)
    write_manifest(settled_table(store, folder), folder / "out.csv")
    frame = read_corpus(folder / "out.csv", Table()).frame
    rows = frame[["label", "kind", "settled", "annotator", "group"]].to_numpy().tolist()
    by_file = {Path(path).name for path in frame["path"]}
    assert by_file == {"a.wav", "b.wav"}
    b = str(folder / "b.wav")
    assert rows == [
        ["", "unknown", "agreed", "ann", b],
        ["rook", "label", "adjudicated", "eve", b],
        ["owl", "label", "agreed", "ann|bob", "g"],
        ["wren", "label", "agreed", "ann", "g"],
        ["noise", "noise", "agreed", "ann", "g"],
    ]
    assert frame["start_s"].tolist() == [0.0, 1.1, 0.0, 0.62, 1.1]
    assert frame["low_hz"].tolist() == ["", "", "", "1000.000000", ""]
    assert frame["time"][3] == answers_since(store)[2].time

    add_clips(other, clips_of(corpus(folder), folder))  # as the page does: then a dragged row finds its clip
    for expected in ((5, 0), (0, 5)):
        assert import_labels(other, read_corpus(folder / "out.csv", Table()), folder, "before") == expected
    assert len(get_clips(other)) == 6
    assert {one.clip: (one.kind, one.labels, one.answer.start_s, one.answer.high_hz) for one in settled(other)} == {
        one.clip: (one.kind, one.labels, one.answer.start_s, one.answer.high_hz) for one in settled(store)}  # fmt: skip
    assert {(one.annotator, one.source) for one in answers_since(other)} == {("before", "import")}
    write_manifest(settled_table(other, folder), folder / "again.csv")
    columns = ["path", "start_s", "end_s", "label", "group", "low_hz", "high_hz", "channel", "rate_hz", "kind", "clip"]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "again.csv")[columns], pd.read_csv(folder / "out.csv")[columns])


def test_several_labels_and_absences_survive_the_manifest(store, clips, folder, other):
    for i, labels in enumerate([{"owl": True, "wren": True}, {"owl": False, "wren": True}, {"owl": False}]):
        add_answer(store, Answer(f"{i}", clips[i], "ann", labels=labels))
    add_answer(store, Answer("n", clips[3], "ann", "noise"))
    table = settled_table(store, folder, several=True).set_index("clip")
    assert table["label"][clips[:4]].tolist() == ["owl|wren", "wren|-owl", "-owl", "-owl|-wren"]
    write_manifest(table.reset_index(), folder / "out.csv")
    assert import_labels(other, read_corpus(folder / "out.csv", Table()), folder, "before", several=True) == (4, 0)
    assert {one.clip: (one.kind, one.labels) for one in settled(other, several=True)} == {
        one.clip: (one.kind, one.labels) for one in settled(store, several=True)}  # fmt: skip
    add_answer(store, Answer("m", clips[4], "ann", labels={"-x": True}))
    with pytest.raises(AudiorepError, match="'-x' begins with -"):
        settled_table(store, folder, several=True)
    assert settled_table(store, folder).set_index("clip")["label"][clips[4]] == "-x"


def test_raven_tables_are_to_the_letter_and_read_back(store, clips, folder, tmp_path, other):
    answered(store, clips)
    out = tmp_path / "raven"
    table = settled_table(store, folder, each=True)
    written = write_raven(table, out, folder)
    assert [path.relative_to(out).as_posix() for path in written] == [
        "b.Table.1.selections.txt", "north/a.Table.1.selections.txt"]  # fmt: skip
    a = folder / "north" / "a.wav"
    assert written[1].read_bytes().decode().split("\n") == [
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\tBegin Path"
        "\tFile Offset (s)\tAnnotation\tAnnotator",
        f"1\tSpectrogram 1\t1\t0.000000\t0.500000\t0.000\t22050.000\ta.wav\t{a}\t0.000000\towl\tann|bob",
        f"2\tSpectrogram 1\t1\t0.620000\t0.880000\t1000.000\t2500.500\ta.wav\t{a}\t0.620000\twren\tann",
        f"3\tSpectrogram 1\t1\t1.100000\t1.600000\t0.000\t22050.000\ta.wav\t{a}\t1.100000\tnoise\tann",
        "",
    ]
    again = read_table(written[1])
    assert again["label"].tolist() == ["owl", "wren", "noise"]
    manifest = read_corpus(folder, Raven(), out)
    labelled = manifest.frame[manifest.frame["label"] != ""]
    assert labelled["label"].tolist() == ["rook", "owl", "wren", "noise"]
    pd.testing.assert_series_equal(labelled["start_s"], table["start_s"], check_index=False)
    assert import_labels(other, manifest, folder, "raven") == (4, 0)
    assert import_labels(other, manifest, folder, "raven") == (0, 4)
    boxes = [(one.low_hz, one.high_hz) for one in answers_since(other)]
    assert boxes == [(None, None), (None, None), (1000.0, 2500.5), (None, None)]  # the whole band is no box


def test_audacity_tracks_are_to_the_letter_and_read_back(store, clips, folder, tmp_path):
    answered(store, clips)
    table = settled_table(store, folder, each=True, noise="")
    written = write_audacity(table, tmp_path / "audacity", folder)
    assert written[1].read_bytes().decode() == (
        "0.000000\t0.500000\towl\n0.620000\t0.880000\twren\n\\\t1000.000000\t2500.500000\n"
    )
    expected = table[table["path"] == str(folder / "north" / "a.wav")].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_labels(written[1]), expected[["start_s", "end_s", "label", "low_hz", "high_hz"]])


def test_each_call_of_a_clip_is_a_selection_of_its_own(store, clips, folder, tmp_path, other):
    add_answer(store, Answer("1", clips[0], "ann", labels={"owl": True, "wren": True, "rook": False}, **BOX))
    add_answer(store, Answer("2", clips[1], "ann", labels={"rook": False}))
    table = settled_table(store, folder, several=True, each=True)
    assert table["label"].tolist() == ["owl", "wren"]
    written = write_raven(table, tmp_path / "raven", folder)
    manifest = read_corpus(folder / "north" / "a.wav", Raven(), written[0])
    with pytest.raises(AudiorepError, match=r"north/a.wav, 0.62 to 0.88 s: rows say both owl and wren"):
        import_labels(other, manifest, folder, "raven")
    assert import_labels(other, manifest, folder, "raven", several=True) == (1, 0)
    assert answers_since(other)[0].labels == {"owl": True, "wren": True}
    assert answers_since(other)[0].low_hz == 1000.0


def test_the_rule_decides_what_is_exported(store, clips, folder):
    for annotator, name in (("ann", "owl"), ("bob", "wren"), ("eve", "owl")):
        add_answer(store, Answer(annotator, clips[0], annotator, labels={name: True}))
    assert len(settled_table(store, folder)) == 0
    assert list(settled_table(store, folder).columns)[:5] == ["path", "start_s", "end_s", "label", "group"]
    table = settled_table(store, folder, rule=majority)
    assert table[["label", "annotator", "settled"]].to_numpy().tolist() == [["owl", "ann|eve", "voted"]]


def test_recordings_of_one_name_and_outside_the_corpus_keep_files_of_their_own(store, tmp_path):
    folder, more = tmp_path / "corpus", tmp_path / "more" / "a.wav"
    places = [("a.wav", 0, 9), ("a.flac", 0, 9), (str(more), 0, 9)]
    ids = add_clips(store, [Clip(f"c{i}", *place, RATE_HZ) for i, place in enumerate(places)])
    for id in ids:
        add_answer(store, Answer(id, id, "ann", labels={"owl": True}))
    written = write_audacity(settled_table(store, folder, each=True), tmp_path / "out", folder)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == [
        "a.flac.labels.txt", "a.wav.labels.txt", f"elsewhere{more.with_suffix('')}.labels.txt"]  # fmt: skip


def test_earlier_labels_are_imported_once_and_a_later_answer_stands_over_them(store, clips, folder):
    lines = ["path,start_s,end_s,label", "north/a.wav,0,0.5,owl", "north/a.wav,0.5,1,", "b.wav,1.5,2,wren"]
    manifest = corpus(folder, *lines)
    assert import_labels(store, manifest, folder, "old labels") == (2, 0)
    assert len(get_clips(store)) == 7  # the last was not a clip yet
    changed = add_answer(store, Answer("k", clips[0], "old labels", "noise"))
    assert import_labels(store, manifest, folder, "old labels") == (0, 2)
    assert {one.clip: one.kind for one in settled(store)}[clips[0]] == "noise"
    undo(store, "u", "old labels", changed.id)
    assert import_labels(store, manifest, folder, "somebody else") == (2, 0)
    assert {one.clip: (one.labels, one.annotators) for one in settled(store)}[clips[0]] == (
        {"owl": True}, ("old labels", "somebody else"))  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["path,start_s,end_s,label", "b.wav,0,1,owl|wren"], "'owl|wren' names several classes: say labels.multilabel"),
        (["path,start_s,end_s,label", "b.wav,0,1,owl", "b.wav,0,1,wren"], "b.wav, 0 to 1 s: rows say both owl and wren"),
        (["path,start_s,end_s,label,kind", "b.wav,0,1,owl,", "b.wav,0,1,,noise"], "rows say both owl and noise"),
    ],
)  # fmt: skip
def test_labels_that_contradict_each_other_are_refused_and_nothing_is_imported(store, folder, lines, told):
    with pytest.raises(AudiorepError) as said:
        import_labels(store, corpus(folder, *lines), folder, "ann")
    assert told in str(said.value)
    assert (answers_since(store), get_clips(store)) == ([], {})


def test_there_and_absent_is_a_contradiction_where_several_labels_are_allowed(store, folder):
    lines = ["path,start_s,end_s,label", "b.wav,0,1,owl|-wren", "b.wav,0,1,wren"]
    with pytest.raises(AudiorepError, match="rows say both owl, not wren and wren"):
        import_labels(store, corpus(folder, *lines), folder, "ann", several=True)


def test_exports_that_cannot_be_written_say_so_and_leave_nothing(store, clips, folder, tmp_path):
    answered(store, clips)
    (tmp_path / "file").touch()
    table = settled_table(store, folder, each=True)
    for write in (write_raven, write_audacity):
        with pytest.raises(AudiorepError, match="cannot write"):
            write(table, tmp_path / "file", folder)
        with pytest.raises(AudiorepError, match="holds a tab or line break"):
            write(table.assign(label="a\tb"), tmp_path / "out", folder)
    assert not list(tmp_path.glob("out/**/*.txt"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("0.0\t1.0\towl\n\\\t100\n", "line 2: expected start, end"),
        ("\\\t1\t2\n", "line 1"),
        ("0.0;1.0;owl\n", "line 1"),
    ],
)  # fmt: skip
def test_a_damaged_label_track_is_named_with_its_line(tmp_path, content, told):
    path = tmp_path / "labels.txt"
    path.write_text(content)
    with pytest.raises(AudiorepError, match=told):
        read_labels(path)
    with pytest.raises(AudiorepError, match="not readable as an Audacity label track"):
        read_labels(tmp_path / "nothing.txt")


def test_label_tracks_as_audacity_writes_them(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeff0.5\t0.5\tpoint\r\n\r\n1.0\t2.0\t\r\n\\\t-1.000000\t900.0\r\n".encode())
    found = read_labels(path)
    assert found["label"].tolist() == ["point", ""]
    assert found["end_s"].tolist() == [0.5, 2.0]
    assert np.isnan(found["low_hz"]).all()
    assert found["high_hz"][1] == 900.0
