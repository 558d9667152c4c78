"""Annotation files as other programs write them: Audacity, Raven, BirdNET, crowsetta's two tables."""

import numpy as np
import pandas as pd
import pytest
from annotated import auto, rows_of, wav

from audiorep.data.formats import audacity, birdnet, raven
from audiorep.data.formats.audacity import Audacity
from audiorep.data.formats.birdnet import BirdNET
from audiorep.data.formats.generic_seq import GenericSeq
from audiorep.data.formats.raven import Raven
from audiorep.data.formats.simple_seq import SimpleSeq
from audiorep.data.formats.writers import WRITERS
from audiorep.data.manifest import Format, read_corpus
from audiorep.errors import AudiorepError

SELECTIONS = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\tSpecies Code"
    "\tConfidence\tBegin Path\tFile Offset (s)\n"
)
COMBINED = "Start (s),End (s),Scientific name,Common name,Confidence,File\n"


# ---- Audacity


@pytest.mark.parametrize("name", ["a.txt", "a.labels.txt", "A.TXT"])
def test_a_label_track_belongs_to_the_recording_whose_name_it_bears(tmp_path, name, caplog):
    caplog.set_level("INFO")
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav")
    (tmp_path / name).write_bytes("\ufeff0.1\t0.4\tÜberflug\r\n\\\t100.0\t2000.5\r\n\r\n1,500000\t1.75\t\r\n".encode())
    manifest = read_corpus(tmp_path, auto())
    assert rows_of(manifest) == [("a.wav", 0.1, 0.4, "Überflug"), ("a.wav", 1.5, 1.75, ""), ("b.wav", 0.0, 2.0, "")]
    assert manifest.frame["high_hz"].tolist()[0] == 2000.5 and np.isnan(manifest.frame["low_hz"][1])
    assert "read as Audacity label tracks" in caplog.text
    assert len(read_corpus(tmp_path, Audacity(unannotated=False))) == 2


def test_point_labels_are_refused_or_get_a_length(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("0.2\t0.3\tx\n0.05\t0.05\towl\n1\t1\twren\n")
    with pytest.raises(
        AudiorepError, match=r"a\.txt: label 2, 0\.05 to 0\.05 s: a point label .*format\.point_s=SECONDS"
    ):
        read_corpus(tmp_path, Audacity())
    rows = rows_of(read_corpus(tmp_path, Audacity(point_s=0.2)))
    assert [(round(start, 6), round(end, 6)) for _, start, end, _ in rows] == [(0.2, 0.3), (0.0, 0.15), (0.9, 1.1)]


@pytest.mark.parametrize(
    "line", ["0.1\tlate\tx", "0.1", "\\\t1\t2", "0.5\t0.2\tx", "-1\t2\tx", "nan\t1\tx", "1\tinf\tx"]
)
def test_a_line_that_is_no_label_is_named(tmp_path, line):
    wav(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text(line + "\n")
    with pytest.raises(AudiorepError, match=r"a\.txt: (line|label) 1"):
        read_corpus(tmp_path, Audacity(), tmp_path / "a.txt")


def test_one_edge_of_a_box_is_written_as_audacity_writes_it(tmp_path):
    frame = pd.DataFrame({"start_s": [1.0], "end_s": [2.0], "label": ["a"], "low_hz": [np.nan], "high_hz": [3000.0]})
    audacity.write_labels(frame, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "1.000000\t2.000000\ta\n\\\t-1.000000\t3000.000000\n"


def test_other_text_files_are_no_tracks(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "README.txt").write_text("2019\tis the year\n")
    (tmp_path / "a.txt").write_text("just notes\n1\t2\tx\n")
    assert not Audacity().recognises(tmp_path, None)
    assert rows_of(read_corpus(tmp_path, auto())) == [("a.wav", 0, 2, "")]


# ---- Raven


def test_times_of_several_recordings_add_up_and_the_file_columns_hold(tmp_path):
    paths = [str(wav(tmp_path / name, seconds)) for name, seconds in (("a.wav", 2.0), ("b.wav", 3.0), ("c.wav", 1.0))]
    frame = pd.DataFrame(
        {"path": paths, "start_s": [0.5, 1.0, 0.25], "end_s": [1.0, 2.0, 0.5], "label": ["x", "y", "z"]}
    )
    out = tmp_path / "out" / "all.txt"
    assert raven.write_together(frame, out) == [out]
    table = pd.read_csv(out, sep="\t")
    assert table["Begin Time (s)"].tolist() == [0.5, 3.0, 5.25]
    assert table["End Time (s)"].tolist() == [1.0, 4.0, 5.5]
    assert table["File Offset (s)"].tolist() == [0.5, 1.0, 0.25]
    assert table["Begin File"].tolist() == ["a.wav", "b.wav", "c.wav"] and table["Begin Path"].tolist() == paths
    assert rows_of(read_corpus(tmp_path, Raven(), out)) == [
        ("a.wav", 0.5, 1.0, "x"),
        ("b.wav", 1, 2, "y"),
        ("c.wav", 0.25, 0.5, "z"),
    ]


def test_a_recording_that_is_not_beside_its_table_is_looked_for_at_its_begin_path(tmp_path):
    far, near = wav(tmp_path / "far" / "a.wav"), tmp_path / "tables"
    near.mkdir()
    row = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tBegin Path\tSpecies\n1\t0\t1\ta.wav\t{}\towl\n"
    (near / "a.Table.1.selections.txt").write_text(row.format(far))
    assert read_corpus(near, Raven()).frame["path"].tolist() == [str(far)]
    wav(near / "a.wav")
    assert read_corpus(near, Raven()).frame["path"].tolist() == [str(near / "a.wav")]  # the one beside counts first


def test_quotation_marks_in_labels_are_part_of_them_unless_the_header_is_quoted(tmp_path):
    wav(tmp_path / "a.wav")
    head = ["Begin Time (s)", "End Time (s)", "Species"]
    path = tmp_path / "a.Table.1.selections.txt"
    path.write_text("\t".join(head) + '\n0\t1\t"Hoo" call\n1\t2\t"\n')
    assert [row[3] for row in rows_of(read_corpus(tmp_path, Raven()))] == ['"Hoo" call', '"']
    path.write_text("\t".join(f'"{name}"' for name in head) + '\n0\t1\t"owl"\n')
    assert [row[3] for row in rows_of(read_corpus(tmp_path, auto()))] == ["owl"]


def test_columns_with_our_own_names_do_not_get_in_the_way(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "a.selections.txt").write_text(
        "Begin Time (s)\tEnd Time (s)\tSpecies\tLabel\tstart_s\tSPECIES\n0\t1\towl\tx\t7\tz\n"
    )
    frame = read_corpus(tmp_path, Raven("species")).frame
    assert frame[["label", "start_s", "label_2", "start_s_2", "species", "species_2"]].values.tolist() == [
        ["owl", 0, "x", "7", "owl", "z"]
    ]


# ---- BirdNET


def test_a_selection_table_of_birdnet_keeps_score_and_names(tmp_path, caplog):
    caplog.set_level("INFO")
    wav(tmp_path / "a.wav", 6.0)
    wav(tmp_path / "b.wav")
    (tmp_path / "a.BirdNET.selection.table.txt").write_text(
        SELECTIONS + "1\tSpectrogram 1\t1\t0\t3.0\t0\t15000\tEurasian Blackbird\teurbla\t0.8631\t/elsewhere/a.wav\t0\n"
        "2\tSpectrogram 1\t1\t3.0\t6.0\t0\t15000\tEuropean Robin\teurrob1\t0.5\t/elsewhere/a.wav\t3.0\n"
    )
    (tmp_path / "b.BirdNET.selection.table.txt").write_text(
        SELECTIONS + "1\tSpectrogram 1\t1\t0\t3\t0\t15000\tnocall\tnocall\t1.0\tb.wav\t0\n"
    )
    manifest = read_corpus(tmp_path, auto())
    assert rows_of(manifest) == [
        ("a.wav", 0, 3, "Eurasian Blackbird"),
        ("a.wav", 3, 6, "European Robin"),
        ("b.wav", 0, 2, ""),
    ]
    assert manifest.frame["score"].tolist()[:2] == [0.8631, 0.5]
    assert manifest.frame["species_code"].tolist()[:2] == ["eurbla", "eurrob1"]
    assert "read as BirdNET detections" in caplog.text
    assert read_corpus(tmp_path, BirdNET("Species Code", unannotated=False)).frame["label"].tolist() == [
        "eurbla",
        "eurrob1",
    ]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_combined_table_names_its_recordings(tmp_path, ending):
    for name in ("north/a.wav", "south/a.wav"):
        wav(tmp_path / name)
    path = tmp_path / f"BirdNET_CombinedTable.{ending}"
    rows = [
        (0.0, 1.5, "Turdus merula", "Blackbird", 0.75, "D:\\field\\south\\a.wav"),
        (0.5, 2.0, "Strix aluco", "Tawny Owl", 0.5, "/x/north/a.wav"),
    ]
    table = pd.DataFrame(rows, columns=COMBINED.strip().split(","))
    table.to_parquet(path) if ending == "parquet" else table.to_csv(path, index=False)
    for source, beside in ((tmp_path, None), (path, None), (tmp_path, path)):
        frame = read_corpus(source, auto(), beside).frame
        assert [(p.split("/")[-2], label) for p, label in zip(frame["path"], frame["label"], strict=True)] == [
            ("south", "Blackbird"), ("north", "Tawny Owl")]  # fmt: skip
        assert frame["score"].tolist() == [0.75, 0.5] and frame["scientific_name"].tolist() == [
            "Turdus merula",
            "Strix aluco",
        ]
    assert read_corpus(path, BirdNET("scientific name")).frame["label"].tolist() == ["Turdus merula", "Strix aluco"]


def test_what_two_tables_tell_of_one_detection_is_one_row(tmp_path):
    wav(tmp_path / "a.wav", 3.0)
    (tmp_path / "BirdNET_SelectionTable.txt").write_text(
        SELECTIONS + "1\tSpectrogram 1\t1\t0\t3.0\t0\t15000\tBlackbird\tb\t0.75\ta.wav\t0\n"
    )
    (tmp_path / "BirdNET_CombinedTable.csv").write_text(
        COMBINED + "0.0,3.0,Turdus merula,Blackbird,0.75,a.wav\n0.0,3.0,X y,Wren,0.5,a.wav\n"
    )
    (tmp_path / "a.BirdNET.results.txt").write_text("0\t3.0\tTurdus merula_Blackbird\t0.75\n")
    assert rows_of(read_corpus(tmp_path, auto())) == [("a.wav", 0, 3, "Blackbird"), ("a.wav", 0, 3, "Wren")]


def test_audacity_labels_of_birdnet_have_a_confidence(tmp_path):
    wav(tmp_path / "a.wav", 3.0)
    (tmp_path / "a.BirdNET.results.txt").write_text("0\t3.0\tTurdus merula_Common Blackbird\t0.7512\n")
    frame = read_corpus(tmp_path, auto()).frame
    assert frame[["label", "scientific_name", "score"]].values.tolist() == [
        ["Common Blackbird", "Turdus merula", 0.7512]
    ]


def test_the_tables_that_are_written_have_birdnets_columns(tmp_path):
    frame = pd.DataFrame(
        {
            "path": [str(wav(tmp_path / "a.wav", 3.0))],
            "start_s": [0.0],
            "end_s": [3.0],
            "label": ["Wren"],
            "score": [0.5],
        }
    )
    birdnet.write_selections(frame, tmp_path / "B.txt")
    assert (tmp_path / "B.txt").read_text().splitlines()[0] == (
        "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tScientific Name\tSpecies Code\tConfidence\tView\tChannel"
        "\tFile Offset (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin Path"
    )
    birdnet.write_combined(frame, tmp_path / "B.csv")
    assert (tmp_path / "B.csv").read_text() == COMBINED + f"0.0,3.0,,Wren,0.5,{tmp_path / 'a.wav'}\n"


@pytest.mark.parametrize(
    "content,words",
    [
        (COMBINED + "0,3,a,b,high,a.wav\n", r"row 2: column 'Confidence' is no number: 'high'"),
        (COMBINED + "0,3,a,b,0.5,a.wav\n3,1,a,b,0.5,a.wav\n", r"row 3: column 'End \(s\)' is not after 'Start \(s\)'"),
        (COMBINED + "0,3,a,b,0.5,\n", "row 2: column 'File' is empty"),
        ("Start (s),End (s),Common name,File\n", "column 'Confidence' is missing"),
    ],
)
def test_a_bad_cell_of_birdnet_is_named(tmp_path, content, words):
    wav(tmp_path / "a.wav", 3.0)
    (tmp_path / "B.csv").write_text(content)
    with pytest.raises(AudiorepError, match=r"B\.csv: " + words):
        birdnet.read_combined(tmp_path / "B.csv", birdnet.find_recordings(tmp_path))


# ---- crowsetta's own


def test_generic_seq_takes_samples_where_there_are_no_seconds_and_finds_recordings_by_either_path(tmp_path):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav")
    (tmp_path / "g.csv").write_text(
        "label,ONSET_SAMPLE,offset_sample,notated_path,annot_path,sequence,annotation,mood\n"
        "x,800,1600,/data/A.WAV,a.not.mat,0,0,sad\ny,0,8000,None,somewhere\\b.wav.not.mat,0,1,\n"
    )
    manifest = read_corpus(tmp_path, auto())
    assert rows_of(manifest) == [("a.wav", 0.1, 0.2, "x"), ("b.wav", 0, 1, "y")]
    assert manifest.frame["mood"].tolist() == ["sad", ""]


def test_a_recording_that_cannot_be_read_is_quarantined_also_where_times_are_in_samples(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    head = "label,onset_sample,offset_sample,notated_path,annot_path,sequence,annotation\n"
    (tmp_path / "g.csv").write_text(head + "x,800,1600,a.wav,a,0,0\ny,0,8000,b.wav,b,0,1\nz,0,8000,c.wav,c,0,2\n")
    manifest = read_corpus(tmp_path, GenericSeq())
    assert len(manifest) == 1 and len(manifest.quarantined) == 2


def test_simple_seq_is_a_table_a_recording(tmp_path):
    wav(tmp_path / "a.wav")
    wav(tmp_path / "b.wav")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfLabel,offset_s,onset_s,who\r\nx,0.5,0.25,Ann\r\n\r\ny,1.5,1,\r\n")
    manifest = read_corpus(tmp_path, auto())
    assert rows_of(manifest) == [("a.wav", 0.25, 0.5, "x"), ("a.wav", 1, 1.5, "y"), ("b.wav", 0, 2, "")]
    (tmp_path / "a.csv").write_text("label,offset_s,onset_s\nx,0.5,0.25\n\ny,0.5,late\n")
    with pytest.raises(AudiorepError, match=r"a\.csv: row 4: column 'onset_s' is no number: 'late'"):
        read_corpus(tmp_path, SimpleSeq())


# ---- what holds for all


@pytest.mark.parametrize("format,name,content", [
    (Audacity(), "z.txt", "0\t1\tx\n"), (SimpleSeq(), "z.csv", "onset_s,offset_s,label\n0,1,x\n"),
    (BirdNET(), "z.BirdNET.results.txt", "0\t1\tx_y\t0.5\n"),
])  # fmt: skip
def test_annotations_without_a_recording_are_named(tmp_path, format: Format, name, content):
    wav(tmp_path / "a.wav")
    (tmp_path / name).write_text(content)
    with pytest.raises(AudiorepError, match=r"z.*: no recording of that name; expected"):
        read_corpus(tmp_path, format)


def test_folders_like_those_of_the_recordings_tell_which_is_meant(tmp_path):
    for site in ("north", "south"):
        wav(tmp_path / "audio" / site / "0600.wav")
        track = tmp_path / "labels" / site / "0600.txt"
        track.parent.mkdir(parents=True)
        track.write_text(f"0\t1\t{site}\n")
    frame = read_corpus(tmp_path / "audio", auto(), tmp_path / "labels").frame
    assert [path.split("/")[-2] for path in frame["path"]] == frame["label"].tolist() == ["north", "south"]


def test_annotations_that_nobody_knows_are_refused_with_the_names_of_those_we_know(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "notes").mkdir()
    with pytest.raises(AudiorepError, match=r"notes: no annotations in a format that we know.*Raven.*hoplite"):
        read_corpus(tmp_path, auto(), tmp_path / "notes")


@pytest.mark.parametrize(
    "writer",
    ["audacity", "birdnet", "birdnet_labels", "generic_seq", "raven", "raven_together", "simple_seq", "hoplite"],
)
def test_rows_without_times_are_refused_by_writers_that_need_them(tmp_path, writer):
    frame = pd.DataFrame(
        {"path": [str(wav(tmp_path / "a.wav"))], "start_s": [np.nan], "end_s": [np.nan], "label": ["x"]}
    )
    with pytest.raises(AudiorepError, match=r"row 1 .*a\.wav.* has no start_s and end_s"):
        WRITERS[writer](frame, tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "a.wav"]


@pytest.mark.parametrize("writer", ["audacity", "birdnet", "birdnet_labels", "raven", "raven_together"])
def test_labels_that_a_line_cannot_hold_are_refused(tmp_path, writer):
    frame = pd.DataFrame(
        {"path": [str(wav(tmp_path / "a.wav"))], "start_s": [0.0], "end_s": [1.0], "label": ["x\u2028y"]}
    )
    with pytest.raises(AudiorepError, match="holds a tab or line break"):
        WRITERS[writer](frame, tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "a.wav"]
