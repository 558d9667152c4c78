"""`audiorep convert`: annotations of one format to another, as a user types it, and one line for wrong input."""

from pathlib import Path

import pandas as pd
import pytest
from annotated import auto, rows_of, wav
from test_cli import refused, run

from audiorep.data.formats.writers import FILES, WRITERS
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
