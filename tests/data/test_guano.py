"""What recorders write into their files: GUANO, AudioMoth's comments through the years, time expansion."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from annotated import auto, rows_of, wav
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorep.composing import compose
from audiorep.data.audio import probe, read, read_resampled
from audiorep.data.formats.raven import Raven
from audiorep.data.formats.table import Table
from audiorep.data.guano import (
    add_recorded,
    format_guano,
    parse_audiomoth,
    parse_guano,
    read_guano,
    recorded,
    write_guano,
)
from audiorep.data.manifest import read_corpus
from audiorep.data.riff import LONGEST_TEXT, find_chunks, read_info, write_chunk
from audiorep.data.windows import Windows, WindowSpec
from audiorep.errors import AudioError, AudiorepError
from audiorep.verbs.index import index

BAT = {
    "Timestamp": "2012-03-29T03:58:01+04:00", "TE": "10", "Samplerate": "256000", "Make": "Pettersson", "Model": "D1000X",
    "Loc Position": "37.1878016 -86.1057312", "SB|Classifier": "US Northeast", "PET|D500X|TSens": "high", "Note": "a\nb: c",
}  # fmt: skip


def with_comment(path: Path, comment: str, artist: str = "") -> Path:
    """A WAV file with an INFO list before its samples, as AudioMoth writes it."""
    wav(path)
    info = b"INFO"
    for name, text in ((b"ICMT", comment), (b"IART", artist)):
        content = text.encode() + b"\0\0\0"
        info += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    content = path.read_bytes()
    at = content.index(b"data")
    content = content[:at] + b"LIST" + struct.pack("<I", len(info)) + info + content[at:]
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    return path


def run_index(words: list[str]) -> None:
    index(compose("index", words))


# ---- chunks


def test_chunks_are_found_and_put_in_without_touching_the_sound(tmp_path):
    path = with_comment(tmp_path / "a.wav", "odd", "x")
    before = read(path, 0, 16_000)
    write_chunk(path, tmp_path / "b.wav", b"guan", b"odd")
    write_chunk(tmp_path / "b.wav", tmp_path / "b.wav", b"guan", b"new content")
    names = [name for name, _, _ in find_chunks(tmp_path / "b.wav")]
    assert names == [b"fmt ", b"LIST", b"data", b"guan"]
    assert read_info(tmp_path / "b.wav") == {"ICMT": "odd", "IART": "x"}
    np.testing.assert_array_equal(read(tmp_path / "b.wav", 0, 16_000), before)
    content = (tmp_path / "b.wav").read_bytes()
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8 and len(content) % 2 == 0


def test_rf64_and_files_that_are_no_wav(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 1000)
    soundfile.write(tmp_path / "long.wav", samples, 8000, format="RF64", subtype="PCM_16")
    before = read(tmp_path / "long.wav", 0, 1000)
    write_guano(tmp_path / "long.wav", tmp_path / "out.wav", BAT)
    assert read_guano(tmp_path / "out.wav")["Make"] == "Pettersson"
    np.testing.assert_array_equal(read(tmp_path / "out.wav", 0, 1000), before)
    soundfile.write(tmp_path / "a.flac", samples, 8000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "long.wav").read_bytes()[:300])
    for name in ("a.flac", "none.wav", "cut.wav"):
        assert read_guano(tmp_path / name) == {} and read_info(tmp_path / name) == {}
        with pytest.raises(AudioError, match="no WAV file with sound"):
            write_guano(tmp_path / name, tmp_path / "x.wav", BAT)


def test_absurd_chunks_do_not_hang_or_fill_the_memory(tmp_path):
    path = wav(tmp_path / "a.wav")
    write_chunk(path, path, b"guan", b"x" * (LONGEST_TEXT + 1))
    assert read_guano(path) == {} and probe(path).rate_hz == 8000
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + b"zero\0\0\0\0" * 100_000)
    assert len(list(find_chunks(path))) == 1000
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVEguan\xff\xff\xff\xffTE: 10")
    assert list(find_chunks(path)) == []


# ---- GUANO

values = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0")).map(lambda text: text.strip(" \t\r\v\f\0"))
keys = (
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r:\0"), min_size=1)
    .map(lambda text: text.strip(" \t"))
    .filter(str.strip)
)


@settings(max_examples=60, deadline=None)
@given(items=st.dictionaries(keys, values, max_size=6))
def test_every_key_of_guano_survives(items):
    content = format_guano(items)
    assert len(content) % 2 == 0 and content.startswith(b"GUANO|Version: ")
    assert parse_guano(content.decode()) == {"GUANO|Version": "1.0"} | items


def test_the_guano_library_reads_ours_and_we_read_its(tmp_path):
    guano = pytest.importorskip("guano", reason="guano is not installed (make install)")
    path = wav(tmp_path / "a.wav", 2.0, 25_600)
    write_guano(path, path, BAT)
    theirs = guano.GuanoFile(str(path))
    assert (
        theirs["TE"] == 10 and theirs["Samplerate"] == 256_000 and theirs["Loc Position"] == (37.1878016, -86.1057312)
    )
    assert (
        theirs["Note"] == "a\nb: c"
        and theirs["SB|Classifier"] == "US Northeast"
        and theirs["PET", "D500X|TSens"] == "high"
    )
    theirs["Note"] = "first\nsecond"
    theirs["TE"] = 8
    theirs["Samplerate"] = 204_800
    theirs.write(make_backup=False)
    again = recorded(path)
    assert (
        again.more["Note"] == "first\nsecond" and again.more["PET|D500X|TSens"] == "high" and again.time_expansion == 8
    )
    assert probe(path).rate_hz == 204_800


def test_guano_tells_place_time_and_recorder(tmp_path):
    path = wav(tmp_path / "a.wav")
    write_guano(path, path, BAT)
    one = recorded(path)
    assert one.recorded_at == "2012-03-29T03:58:01+04:00" and (one.lat, one.lon) == (37.1878016, -86.1057312)
    assert one.recorder == "Pettersson D1000X" and one.rate_hz == 256_000 and one.more["Note"] == "a\nb: c"


@pytest.mark.parametrize("items", [
    {"Loc Position": "here"}, {"Loc Position": "95 0"}, {"Loc Position": "1 2 3"}, {"Timestamp": "yesterday"}, {"TE": "fast"},
    {"TE": "0"}, {"TE": "nan"}, {"TE": "1e9"}, {"Samplerate": "-"},
])  # fmt: skip
def test_what_guano_tells_wrongly_is_not_believed(tmp_path, items):
    path = wav(tmp_path / "a.wav")
    write_guano(path, path, items)
    one = recorded(path)
    assert (one.recorded_at, one.lat, one.lon, one.time_expansion, one.rate_hz) == ("", None, None, 1.0, one.rate_hz)
    assert probe(path).rate_hz == 8000


@pytest.mark.parametrize("key", ["", " ", "a:b", "a\nb"])
def test_keys_that_guano_cannot_hold_are_refused(key):
    with pytest.raises(AudiorepError, match="GUANO cannot hold the key"):
        format_guano({key: "x"})


# ---- AudioMoth

SERIAL = "0FE081F80FE081F0"
BY = f"by AudioMoth {SERIAL}"
WORDINGS = [
    (
        f"Recorded at 19:17:30 19/02/2018 {BY} at gain setting 2 while battery state was 3.80V",
        "2018-02-19T19:17:30", SERIAL, "2", "3.80",
    ), (
        f"Recorded at 19:17:30 19/02/2019 (UTC) {BY} at gain setting 2 while battery state was 3.8V",
        "2019-02-19T19:17:30+00:00", SERIAL, "2", "3.8",
    ), (
        f"Recorded at 10:25:00 04/04/2020 (UTC+1) {BY} at gain setting 4 while battery state was > 5.0V.",
        "2020-04-04T10:25:00+01:00", SERIAL, "4", "> 5.0",
    ), (
        f"Recorded at 04:40:00 02/09/2021 (UTC-6) {BY} at medium gain setting while battery state was 4.6V and temperature "
        "was 20.1C.", "2021-09-02T04:40:00-06:00", SERIAL, "medium", "4.6",
    ), (
        f"Recorded at 04:40:00 02/09/2021 (UTC-3:30) by AudioMoth {SERIAL.lower()} at low-medium gain while battery was less "
        "than 2.5V and temperature was -1.5C.", "2021-09-02T04:40:00-03:30", SERIAL, "low-medium", "less than 2.5",
    ), (
        "Recorded at 10:06:19 06/12/2020 (UTC) during deployment EEC909D42565A5F0 using external microphone at medium gain "
        "setting while battery state was 4.2V and temperature was 19.6C.", "2020-12-06T10:06:19+00:00", "", "medium", "4.2",
    ), (
        f"Recorded at 00:00:00.250 11/05/2026 (UTC+5:30) {BY} at high gain while battery was greater than 4.9V and "
        "temperature was 13.3C. Amplitude threshold was 512. Band-pass filter applied with cut-off frequencies of 1.0kHz "
        "and 2.0kHz. Recording stopped due to low voltage.",
        "2026-05-11T00:00:00.250000+05:30", SERIAL, "high", "greater than 4.9",
    ),
]  # fmt: skip


@pytest.mark.parametrize("comment,when,serial,gain,battery", WORDINGS)
def test_the_comments_of_audiomoth_are_understood_in_all_their_wordings(comment, when, serial, gain, battery):
    one = parse_audiomoth(comment)
    assert (one.recorded_at, one.serial, one.more["gain"], one.more["battery_v"]) == (when, serial, gain, battery)
    assert one.recorder == (f"AudioMoth {serial}" if serial else "Open Acoustic Devices AudioMoth")
    assert one.deployment == ("" if serial else "EEC909D42565A5F0")


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "a field recording of 19/02/2019",
        "Recorded by AudioMoth",
        "Recorded at 99:99:99 99/99/2019 (UTC+99:99) by AudioMoth",
    ],
)
def test_other_comments_tell_no_time(comment):
    one = parse_audiomoth(comment)
    assert one is None or one.recorded_at == ""


def test_the_artist_names_the_audiomoth_where_the_comment_names_the_deployment(tmp_path):
    comment = WORDINGS[5][0]
    one = recorded(with_comment(tmp_path / "a.WAV", comment, f"AudioMoth {SERIAL}"))
    assert (one.recorder, one.deployment) == (f"AudioMoth {SERIAL}", "EEC909D42565A5F0")
    with soundfile.SoundFile(tmp_path / "b.flac", "w", 8000, 1) as file:
        file.comment = comment
        file.artist = f"AudioMoth {SERIAL}"
        file.write(np.zeros(100))
    assert recorded(tmp_path / "b.flac").recorder == f"AudioMoth {SERIAL}"


# ---- in the index


def test_index_adds_what_the_files_tell_and_leaves_what_the_table_says(tmp_path):
    with_comment(tmp_path / "a.wav", WORDINGS[1][0])
    write_guano(wav(tmp_path / "b.wav"), tmp_path / "b.wav", BAT | {"TE": "1", "Samplerate": "8000"})
    wav(tmp_path / "c.wav")
    run_index([f"recordings={tmp_path}", f"out={tmp_path / 'all.csv'}"])
    frame = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    assert frame["recorded_at"].tolist() == ["2019-02-19T19:17:30+00:00", "2012-03-29T03:58:01+04:00", ""]
    assert frame["recorder"].tolist() == [f"AudioMoth {SERIAL}", "Pettersson D1000X", ""]
    assert frame["lat"].tolist() == ["", "37.187802", ""] and "time_expansion" not in frame

    (tmp_path / "own.csv").write_text("path,lat,recorder\na.wav,7,mine\nb.wav,,\nc.wav,,yours\n")
    told = add_recorded(read_corpus(tmp_path / "own.csv", Table()).frame)
    assert told["recorder"].tolist() == ["mine", "Pettersson D1000X", "yours"]
    assert [str(lat) for lat in told["lat"]] == ["7", "37.1878016", ""]
    assert told["lon"].isna().tolist() == [True, False, True]


def test_index_adds_no_column_where_no_file_tells_anything(tmp_path):
    wav(tmp_path / "c.wav")
    frame = read_corpus(tmp_path, auto()).frame
    assert list(add_recorded(frame).columns) == list(frame.columns)


# ---- time expansion


@pytest.fixture
def bat(tmp_path: Path) -> Path:
    """Two seconds at 25.6 kHz that hold 0.2 s at 256 kHz."""
    path = wav(tmp_path / "bat.wav", 2.0, 25_600)
    write_guano(path, path, BAT)
    return path


def test_a_slowed_down_file_has_the_rate_and_length_of_its_sound(bat):
    info = probe(bat)
    assert (info.rate_hz, info.frames, info.duration_s, info.time_expansion) == (256_000, 51_200, 0.2, 10.0)
    np.testing.assert_array_equal(read_resampled(bat, info.rate_hz, 100, 50, 256_000), read(bat, 100, 50))
    assert probe(bat, 1.0).rate_hz == 25_600 and probe(bat, float("nan")).rate_hz == 256_000


def test_a_file_that_was_brought_back_to_its_true_rate_is_left_alone(tmp_path):
    path = wav(tmp_path / "a.wav", 0.2, 256_000)
    write_guano(path, path, BAT)
    assert probe(path).rate_hz == 256_000 and probe(path).time_expansion == 1.0


def test_windows_and_tables_are_in_true_time(bat, tmp_path):
    (tmp_path / "bat.Table.1.selections.txt").write_text(
        "Begin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n0.05\t0.1\t2e4\t9e4\tPip\n"
    )
    manifest = read_corpus(tmp_path, Raven())
    assert rows_of(manifest) == [("bat.wav", 0.05, 0.1, "Pip")] and manifest.common_rate_hz == 256_000
    windows = Windows(manifest, WindowSpec(0.05), 256_000)
    assert (int(windows.first[0]), int(windows.last[0]), windows.length) == (12_800, 25_600, 12_800)

    # the same box, drawn on the file as it plays
    (tmp_path / "bat.Table.1.selections.txt").write_text(
        "Begin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n0.5\t1.0\t2000\t9000\tPip\n"
    )
    with pytest.raises(AudiorepError, match=r"past the end.*slowed down.*expanded=true"):
        read_corpus(tmp_path, Raven())
    run_index([f"recordings={tmp_path}", "expanded=true", f"out={tmp_path / 'all.csv'}"])
    frame = read_corpus(tmp_path / "all.csv", Table()).frame
    assert frame[["start_s", "end_s", "time_expansion"]].values.tolist() == [[0.05, 0.1, 10.0]]
    assert frame[["low_hz", "high_hz", "rate_hz"]].astype(float).values.tolist() == [[20_000.0, 90_000.0, 256_000.0]]


def test_the_table_may_say_how_far_a_file_is_slowed_down(tmp_path):
    wav(tmp_path / "plain.wav", 2.0, 25_600)
    (tmp_path / "all.csv").write_text(
        "path,start_s,end_s,label,time_expansion\nplain.wav,0.05,0.1,Pip,10\nplain.wav,0.1,0.2,Pip,10\n"
    )
    manifest = read_corpus(tmp_path / "all.csv", Table())
    assert manifest.common_rate_hz == 256_000 and next(iter(manifest.files.values())).duration_s == 0.2
    run_index([f"recordings={tmp_path / 'plain.wav'}", "time_expansion=10", f"out={tmp_path / 'index.csv'}"])
    manifest = read_corpus(tmp_path / "index.csv", Table())
    assert manifest.common_rate_hz == 256_000 and manifest.frame["time_expansion"].tolist() == [10.0]
    (tmp_path / "all.csv").write_text("path,time_expansion\nplain.wav,10\nplain.wav,fast\n")
    with pytest.raises(
        AudiorepError, match=r"all\.csv: row 3: column 'time_expansion' is no factor such as 10: 'fast'"
    ):
        read_corpus(tmp_path / "all.csv", Table())
