"""`audiorep convert`: annotations of one format to another, as a user types it, and one line for wrong input."""

from pathlib import Path

import pandas as pd
import pytest
from annotated import auto, rows_of, wav
from test_cli import refused, run

from audiorep.data.formats.writers import FILES, WRITERS
from audiorep.data.guano import write_guano
from audiorep.data.manifest import read_corpus

ROWS = [("a.wav", 0.5, 1.0, "song"), ("a.wav", 1.25, 1.5, "call"), ("b.wav", 0.0, 0.75, "song")]


@pytest.fixture
def corpus(tmp_path) -> Path:
    for name in ("day/a.wav", "night/b.wav", "night/c.wav"):
        wav(tmp_path / "in" / name)
    rows = [("night/" if path == "b.wav" else "day/") + path for path, *_ in ROWS]
    table = pd.DataFrame(ROWS, columns=["path", "start_s", "end_s", "label"]).assign(path=rows)
    table.loc[len(table)] = ["night/c.wav", 0.0, 1.0, ""]
    table.to_csv(tmp_path / "in" / "rows.csv", index=False)
    return tmp_path / "in" / "rows.csv"


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_converted_is_read_again(corpus, tmp_path, name):
    out = tmp_path / "out" / f"all{FILES[name][0]}" if name in FILES else tmp_path / "out"
    assert run("convert", f"recordings={corpus}", f"to={name}", f"out={out}") == 0
    sound = list((tmp_path / "out").rglob("*.wav"))
    if sound:  # clips, which hold the rows
        found = read_corpus(tmp_path / "out", auto())
        assert len(sound) == 3 and sorted(found.frame["label"]) == ["call", "song", "song"]
    else:
        found = read_corpus(out, auto()) if name == "table" else read_corpus(corpus.parent, auto(), out)
        kept = [row for row in rows_of(found) if row[3]]
        assert sorted(kept) == ROWS


def test_rows_without_a_label_are_written_where_it_is_wanted(corpus, tmp_path):
    for given, count in (([], 3), (["unlabelled=true"], 4)):
        assert run("convert", f"recordings={corpus}", "to=table", f"out={tmp_path / str(count)}.csv", *given) == 0
        assert len(pd.read_csv(tmp_path / f"{count}.csv")) == count


def test_wrong_input_is_refused_in_one_line(corpus, tmp_path, capsys):
    given = [f"recordings={corpus}", f"out={tmp_path / 'x.csv'}"]
    assert "to=lynx: there are table, raven_together" in refused(capsys, "convert", *given, "to=lynx")
    assert "raven_together is one file: name it ....txt" in refused(capsys, "convert", *given, "to=raven_together")
    assert run("convert", *given, "to=table") == 0
    assert "exists: choose another name, or overwrite=true" in refused(capsys, "convert", *given, "to=table")
    assert run("convert", *given, "to=table", "overwrite=true") == 0
    assert "is a file: name a folder" in refused(capsys, "convert", *given, "to=raven")
    wav(tmp_path / "only" / "a.wav")
    unlabelled = [f"recordings={tmp_path / 'only'}", f"out={tmp_path / 'y.csv'}", "to=table"]
    assert "no row has a label" in refused(capsys, "convert", *unlabelled)


@pytest.mark.parametrize("name", ["raven", "raven_together"])
def test_boxes_on_slowed_down_bats_go_out_and_come_back_at_either_speed(tmp_path, name):
    for bat in ("a", "b"):  # two seconds at 25.6 kHz that hold 0.2 s at 256 kHz
        path = wav(tmp_path / "in" / f"{bat}.wav", 2.0, 25_600)
        write_guano(path, path, {"TE": "10", "Samplerate": "256000"})
    rows = "a.wav,0.05,0.1,Pip,2e4,9e4\nb.wav,0.125,0.15,Nyc,25000,3e4\n"
    (tmp_path / "in" / "rows.csv").write_text("path,start_s,end_s,label,low_hz,high_hz\n" + rows)
    corpus = read_corpus(tmp_path / "in" / "rows.csv", auto())
    for speed, given, begins in (("true", [], "0.125000"), ("slow", ["as_played=true"], "1.250000")):
        out = tmp_path / speed / ("all.txt" if name in FILES else "")
        assert run("convert", f"recordings={tmp_path / 'in' / 'rows.csv'}", f"to={name}", f"out={out}", *given) == 0
        table = next((tmp_path / speed).rglob("*all.txt" if name in FILES else "b.*.txt"))
        columns = [line.split("\t") for line in table.read_text().splitlines()]
        cells = dict(zip(columns[0], columns[-1], strict=True))
        assert cells["File Offset (s)"] == begins and float(cells["High Freq (Hz)"]) == 30_000 / (10 if given else 1)
        before = (2.0 if given else 0.2) if name in FILES else 0.0
        assert float(cells["Begin Time (s)"]) == pytest.approx(float(begins) + before, abs=1e-6)
        (tmp_path / "in" / "rows.csv").rename(tmp_path / "rows.csv")  # only the table that was written is to be read
        index = [f"recordings={tmp_path / 'in'}", f"annotations={out}", f"out={tmp_path / f'{speed}.csv'}"]
        assert run("index", *index) == 0
        (tmp_path / "rows.csv").rename(tmp_path / "in" / "rows.csv")
        found, factor = pd.read_csv(tmp_path / f"{speed}.csv"), 10 if given else 1
        wanted = corpus.frame[["start_s", "end_s"]].to_numpy() * factor
        assert abs(found[["start_s", "end_s"]].to_numpy() - wanted).max() < 1e-6
        assert found["high_hz"].tolist() == [90_000 / factor, 30_000 / factor]
