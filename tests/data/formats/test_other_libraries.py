"""Files of the other tools' own libraries are read, and theirs read ours: crowsetta and perch-hoplite."""

import datetime
import importlib.resources
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from annotated import auto, rows_of, wav

from audiorep.data.formats.crowsetta import Crowsetta
from audiorep.data.formats.hoplite import Hoplite, read_annotations, read_windows
from audiorep.data.formats.hoplite_write import write_hoplite
from audiorep.data.formats.writers import WRITERS
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudiorepError

pytestmark = pytest.mark.filterwarnings("ignore:::crowsetta", "ignore:::pandera")


@pytest.fixture(scope="module")
def crowsetta() -> ModuleType:
    return pytest.importorskip("crowsetta", reason="crowsetta is not installed (audiorep[crowsetta])")


@pytest.fixture(scope="module")
def hoplite() -> ModuleType:
    return pytest.importorskip(
        "perch_hoplite.db.sqlite_usearch_impl", reason="perch-hoplite is not installed (make install)"
    )


def frame_of(folder: Path) -> pd.DataFrame:
    paths = [str(wav(folder / name, 4.0)) for name in ("north/a.wav", "north/a.wav", "south/b.wav")]
    times = {"start_s": [0.1, 1 / 3, 0.25], "end_s": [0.4, 1.0, 0.75]}
    return pd.DataFrame(
        {
            "path": paths,
            **times,
            "label": ["Höckergans", "b c", "d"],
            "low_hz": [100.0, 10.0, 5.0],
            "high_hz": [2e3, 30.5, 7.0],
            "rate_hz": 8000,
        }
    )


# ---- crowsetta


def test_crowsetta_reads_our_tables_and_we_read_what_it_makes_of_them(crowsetta, tmp_path):
    frame = frame_of(tmp_path)
    (ours,) = WRITERS["generic_seq"](frame, tmp_path / "out" / "g.csv")
    read = crowsetta.formats.seq.GenericSeq.from_file(ours)
    told = [
        (str(one.notated_path), s.onset_s, s.offset_s, s.onset_sample, s.label)
        for one in read.to_annot()
        for s in one.seq.segments
    ]
    samples = np.rint(frame["start_s"] * 8000).astype(int)
    assert told == list(zip(frame["path"], frame["start_s"], frame["end_s"], samples, frame["label"], strict=True))
    read.to_file(tmp_path / "theirs" / "g.csv" if (tmp_path / "theirs").mkdir() is None else None)
    manifest = read_corpus(tmp_path, auto(), tmp_path / "theirs")
    assert rows_of(manifest) == [
        ("a.wav", 0.1, 0.4, "Höckergans"),
        ("a.wav", 1 / 3, 1.0, "b c"),
        ("b.wav", 0.25, 0.75, "d"),
    ]

    for i, path in enumerate(WRITERS["simple_seq"](frame, tmp_path / "simple")):
        one = crowsetta.formats.seq.SimpleSeq.from_file(path)
        part = frame[frame["path"] == sorted(set(frame["path"]))[i]]
        assert one.onsets_s.tolist() == part["start_s"].tolist() and list(one.labels) == part["label"].tolist()
        one.to_file(path)
    assert rows_of(read_corpus(tmp_path, Crowsetta("simple-seq"), tmp_path / "simple")) == rows_of(manifest)


@pytest.mark.parametrize(
    "writer,name,options", [("raven", "raven", {"annot_col": "Annotation"}), ("audacity", "aud-bbox", {})]
)
def test_crowsetta_reads_our_boxes_and_we_read_them_through_it(crowsetta, tmp_path, writer, name, options):
    frame = frame_of(tmp_path)
    files = WRITERS[writer](frame, tmp_path / writer)
    boxes = [box for path in files for box in crowsetta.formats.by_name(name).from_file(path, **options).to_bbox()]
    assert [(box.label, box.low_freq, box.high_freq) for box in boxes] == list(
        zip(frame["label"], frame["low_hz"], frame["high_hz"], strict=True)
    )
    found = read_corpus(tmp_path, Crowsetta(name, options), tmp_path / writer).frame
    columns = ["path", "label", "low_hz", "high_hz"]
    assert found[columns].values.tolist() == frame[columns].values.tolist()
    np.testing.assert_allclose(found["start_s"], frame["start_s"], atol=1e-6)


EXAMPLES = [
    ("AVO-maea-basic.TextGrid", "AVO-maea-basic.wav", "textgrid", 14), ("sa1.phn", "sa1.wav", "timit", 37),
    ("gy6or6_baseline_230312_0808.138.cbin.not.mat", "gy6or6_baseline_230312_0808.138.wav", "notmat", 78),
    ("405_marron1_June_14_2016_69640887.audacity.txt", "405_marron1_June_14_2016_69640887.audacity.wav", "aud-seq", 61),
    ("spinetail.txt", "spinetail.wav", "aud-bbox", 18), ("Annotation.xml", "0.wav", "birdsong-recognition-dataset", 29),
]  # fmt: skip


@pytest.mark.parametrize("file,recording,name,count", EXAMPLES)
def test_the_examples_that_crowsetta_ships_are_read(crowsetta, tmp_path, file, recording, name, count):
    shutil.copy(str(importlib.resources.files("crowsetta.examples").joinpath(file)), tmp_path)
    wav(tmp_path / recording, 60.0)
    manifest = read_corpus(tmp_path, Crowsetta(name, unannotated=False))
    assert len(manifest) == count
    if name in ("textgrid", "timit", "notmat"):
        assert rows_of(read_corpus(tmp_path, auto())) == rows_of(manifest)


def test_textgrids_keep_their_times_and_tiers(crowsetta, tmp_path):
    shutil.copy(str(importlib.resources.files("crowsetta.examples").joinpath("AVO-maea-basic.TextGrid")), tmp_path)
    wav(tmp_path / "AVO-maea-basic.wav", 3.0)
    frame = read_corpus(tmp_path, Crowsetta("textgrid")).frame
    assert frame["end_s"][0] == pytest.approx(0.05145, abs=1e-5) and frame["end_s"][0] != round(frame["end_s"][0], 3)
    assert sorted(set(frame["tier"])) == [0, 1]
    assert len(read_corpus(tmp_path, Crowsetta("textgrid", {"tier": 2}))) == 7


def test_what_crowsetta_cannot_read_is_one_line(crowsetta, tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "a.TextGrid").write_text("no\ngrid\n")
    with pytest.raises(AudiorepError, match=r"a\.TextGrid: crowsetta cannot read it as textgrid") as caught:
        read_corpus(tmp_path, auto())
    assert "\n" not in str(caught.value)
    with pytest.raises(AudiorepError, match=r"format\.name=elan: crowsetta knows aud-bbox, .*timit"):
        read_corpus(tmp_path, Crowsetta("elan"))
    with pytest.raises(AudiorepError, match=r"no file ends in \.phn"):
        read_corpus(tmp_path, Crowsetta("timit"))


def test_without_crowsetta_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "crowsetta", None)
    wav(tmp_path / "a.wav")
    (tmp_path / "a.phn").write_text("0 1 h\n")
    with pytest.raises(AudiorepError, match=r"pip install 'audiorep\[crowsetta\]'"):
        read_corpus(tmp_path, auto())


# ---- perch-hoplite


def theirs(hoplite: ModuleType, folder: Path) -> np.ndarray:
    """A database made with the library alone; returns its embeddings."""
    from perch_hoplite.db.datatypes import LabelType

    db = hoplite.SQLiteUSearchDB.create(str(folder), hoplite.get_default_usearch_config(16))
    db.add_extra_table_column("annotations", "mood", str)
    north = db.insert_deployment("north", "p", 1.5, -2.25)
    first = db.insert_recording("north/a.wav", datetime.datetime(2020, 1, 2, 3, 4, 5), north)
    second = db.insert_recording("south/b.wav")
    db.insert_recording("c.wav")
    embeddings = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    for recording, offsets, embedding in zip(
        (first, first, second), ([0.0, 2.0], [2.0, 4.0], [0.0, 2.0]), embeddings, strict=True
    ):
        db.insert_window(recording, offsets, embedding)
    db.insert_annotation(first, [0.0, 2.0], "owl", LabelType.POSITIVE, "ann", mood="sad")
    db.insert_annotation(first, [0.0, 2.0], "wren", LabelType.NEGATIVE, "ann", mood="")
    db.insert_annotation(second, [0.1, 1 / 3], "röck", LabelType.UNCERTAIN, "bob", mood="")
    db.commit()
    db.db.close()
    return embeddings


def test_we_read_what_perch_hoplite_writes(hoplite, tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("north/a.wav", "south/b.wav", "c.wav"):
        wav(tmp_path / "audio" / name, 4.0)
    embeddings = theirs(hoplite, tmp_path / "db")
    windows, found = read_windows(tmp_path / "db")
    assert windows.values.tolist() == [["north/a.wav", 0, 2], ["north/a.wav", 2, 4], ["south/b.wav", 0, 2]]
    np.testing.assert_array_equal(found, embeddings.astype(np.float16).astype(np.float32))
    before = {path.name: path.read_bytes() for path in (tmp_path / "db").iterdir()}
    frame = read_corpus(tmp_path / "audio", auto(), tmp_path / "db").frame
    assert {path.name: path.read_bytes() for path in (tmp_path / "db").iterdir()} == before
    assert "read as hoplite" in caplog.text
    rows = frame[["start_s", "end_s", "label", "uncertain", "provenance"]].fillna("").values.tolist()
    assert rows == [
        [0, 2, "owl", "", "ann"],
        [0, 2, "-wren", "", "ann"],
        [0.1, 1 / 3, "", "röck", "bob"],
        [0, 4, "", "", ""],
    ]
    assert frame[["deployment", "project", "lat", "lon", "recorded_at", "mood"]].values.tolist()[0] == [
        "north",
        "p",
        1.5,
        -2.25,
        "2020-01-02T03:04:05",
        "sad",
    ]
    assert len(read_corpus(tmp_path / "audio", Hoplite(unannotated=False), tmp_path / "db")) == 3


def test_perch_hoplite_opens_searches_and_goes_on_with_what_we_write(hoplite, tmp_path):
    from perch_hoplite.agile.source_info import AudioSources
    from perch_hoplite.db.datatypes import LabelType

    frame = frame_of(tmp_path).assign(
        site=["n", "n", "s"],
        lat=[1.5, 1.5, np.nan],
        lon=[2.5, 2.5, np.nan],
        recorded_at=["2020-01-02T03:04:05Z"] * 2 + [""],
    )
    frame["label"] = ["owl|-wren", "", "rook"]
    frame["uncertain"] = ["", "röck", ""]
    embeddings = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    assert [path.name for path in write_hoplite(frame, tmp_path / "db", embeddings, project="p")] == [
        "usearch.index",
        "hoplite.sqlite",
    ]
    for readonly in (True, False):
        db = hoplite.SQLiteUSearchDB.create(str(tmp_path / "db"), readonly=readonly)
        assert [(one.name, one.project, one.latitude) for one in db.get_all_deployments()] == [
            ("n", "p", 1.5),
            ("s", "p", None),
        ]
        assert [one.filename for one in db.get_all_recordings()] == ["north/a.wav", "south/b.wav"]
        assert db.get_all_recordings()[0].datetime == datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        told = [
            (*one.offsets, one.label, one.label_type, one.provenance, one.low_hz) for one in db.get_all_annotations()
        ]
        assert told == [
            (0.1, 0.4, "owl", LabelType.POSITIVE, "audiorep", 100.0),
            (0.1, 0.4, "wren", LabelType.NEGATIVE, "audiorep", 100.0),
            (1 / 3, 1.0, "röck", LabelType.UNCERTAIN, "audiorep", 10.0),
            (0.25, 0.75, "rook", LabelType.POSITIVE, "audiorep", 5.0),
        ]
        assert db.count_embeddings() == 3
        for i, window in enumerate(db.get_all_windows(include_embedding=True)):
            np.testing.assert_array_equal(window.embedding, embeddings[i].astype(np.float16))
        best = max(db.search(embeddings[1], 3).search_results, key=lambda one: one.sort_score)
        assert int(best.window_id) == 1 + int(np.argmax(embeddings @ embeddings[1]))
    assert AudioSources.from_config_dict(db.get_metadata("audio_sources")).audio_globs[0].base_path == str(tmp_path)
    window = db.insert_window(2, [2.0, 3.0], np.ones(8, np.float32))
    db.insert_annotation(2, [2.0, 3.0], "new", LabelType.POSITIVE, "them", low_hz=1.0)
    db.commit()
    assert (window, db.count_embeddings()) == (4, 4)
    assert read_annotations(tmp_path / "db")["label"].tolist() == ["owl", "-wren", "", "rook", "new"]
    assert read_corpus(tmp_path / "db", auto()).quarantined == ()  # the recordings lie where the database says


def test_perch_hoplite_adds_embeddings_to_what_we_write_without(hoplite, tmp_path):
    assert [path.name for path in write_hoplite(frame_of(tmp_path), tmp_path / "db", dim=4)] == ["hoplite.sqlite"]
    db = hoplite.SQLiteUSearchDB.create(str(tmp_path / "db"))
    assert (db.get_embedding_dim(), db.count_embeddings(), len(db.get_all_annotations())) == (4, 0, 3)
    db.insert_window(1, [0.0, 1.0], np.ones(4, np.float32))
    db.commit()
    assert read_windows(tmp_path / "db")[1].tolist() == [[1.0] * 4]


def test_what_is_no_database_of_hoplite_is_one_line(tmp_path):
    wav(tmp_path / "a.wav")
    (tmp_path / "hoplite.sqlite").write_bytes(b"not a database")
    with pytest.raises(AudiorepError, match=r"hoplite\.sqlite: not readable as a database of hoplite"):
        read_corpus(tmp_path, auto())
    frame = frame_of(tmp_path / "x")
    with pytest.raises(AudiorepError, match="holds a hoplite.sqlite already"):
        write_hoplite(frame, tmp_path)
    with pytest.raises(AudiorepError, match=r"row 2: column 'recorded_at' is not ISO 8601: 'noon'"):
        write_hoplite(frame.assign(recorded_at=["", "", "noon"]).iloc[[0, 2]], tmp_path / "db")
    with pytest.raises(AudiorepError, match=r"embeddings \(2, 4\) for 3 rows"):
        write_hoplite(frame, tmp_path / "db", np.zeros((2, 4), np.float32))
    with pytest.raises(AudiorepError, match="half precision cannot"):
        write_hoplite(frame, tmp_path / "db", np.full((3, 4), 1e6, np.float32))
    assert not list(tmp_path.glob("db/*"))
