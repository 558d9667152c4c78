"""Long commands go on where they were stopped: the journal, and what embed and check leave after any kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_cli import TINY, refused, run
from toy import RATE_HZ, tone

from audiorep.apply.embed import Embedder, embed_recordings
from audiorep.data.formats.auto import Auto
from audiorep.data.formats.folders import Recordings
from audiorep.data.manifest import read_corpus
from audiorep.data.quarantine import add_to_quarantine
from audiorep.doctor.examine import examine
from audiorep.errors import AudiorepError
from audiorep.journal import Journal


def recordings(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{i:03d}.wav" for i in range(count)]
    for i, path in enumerate(paths):
        wave = tone(i // 2 % 4, i // 2, 2.0)  # each call twice, cut elsewhere
        soundfile.write(path, wave[800 * (i % 2) : len(wave) - 400 * (i % 5)], RATE_HZ)
    (folder / f"{count // 2:03d}.wav").write_bytes(b"RIFF")
    return paths


def content(folder: Path) -> dict[str, bytes]:
    """What a command leaves, without the times it took."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "journal.jsonl"}


# ------------------------------------------------------------ the journal


def test_a_journal_cut_off_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path):
    names = [tmp_path / name for name in ("a\n.wav", "ü.wav", "c.wav")]
    for path in names:
        path.write_text("x")
    with Journal(tmp_path / "j", {"hop": 1}) as journal:
        for path in names:
            journal.add(path, "done", rows=3)
    whole = (tmp_path / "j").read_bytes()
    for cut in range(len(whole) + 1):
        (tmp_path / "j").write_bytes(whole[:cut])
        with Journal(tmp_path / "j", {"hop": 1}) as journal:
            known = [path for path in names if journal.done(path)]
            lines = whole[:cut].count(b"\n")
            assert known == names[: max(0, lines - 1)]
            for path in names[len(known) :]:
                journal.add(path, "done", rows=3)
        assert (tmp_path / "j").read_bytes() == whole


def test_what_failed_or_was_changed_since_is_not_done(tmp_path):
    good, bad = tmp_path / "a.wav", tmp_path / "b.wav"
    good.write_text("x")
    with Journal(tmp_path / "j", {}) as journal:
        journal.add(good, "done")
        journal.add(bad, "failed", reason="no such file")
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.done(good) and not journal.done(bad) and journal.ended(bad)
        good.write_text("longer")
        assert not journal.done(good)
        bad.write_text("is there now")
        assert not journal.ended(bad)


def test_a_journal_of_other_settings_or_none_at_all_is_refused(tmp_path):
    with Journal(tmp_path / "j", {"hop": 1, "model": "m"}):
        pass
    with pytest.raises(AudiorepError, match="was begun with hop=1, not 2: resume with the same settings"):
        Journal(tmp_path / "j", {"hop": 2, "model": "m"})
    (tmp_path / "j").write_text("no journal\n")
    with pytest.raises(AudiorepError, match="not readable as a journal"):
        Journal(tmp_path / "j", {})


# ------------------------------------------------------------ stopped within a process, at every file

FIRST = Embedder(lambda waves: waves[:, :8].astype(np.float32), RATE_HZ, 4000)


class Stopped(BaseException):
    """A kill."""


def stop_at(wanted):
    def progress(done, total):
        if done == wanted:
            raise Stopped

    return progress


def test_embedding_stopped_at_every_file_leaves_what_it_leaves_undisturbed(tmp_path):
    paths = recordings(tmp_path / "in", 8)
    wanted = embed_recordings(paths, FIRST, tmp_path / "whole", 1000, {}, 2)
    for at in range(1, len(paths) + 1):
        with pytest.raises(Stopped):
            embed_recordings(paths, FIRST, tmp_path / "cut", 1000, {}, 2, stop_at(at))
    assert embed_recordings(paths, FIRST, tmp_path / "cut", 1000, {}, 2) == wanted
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert not (tmp_path / "cut" / "parts").exists()


def test_embedding_that_is_done_is_not_done_again_and_a_changed_recording_is(tmp_path):
    paths = recordings(tmp_path / "in", 4)
    asked = []
    counted = Embedder(lambda waves: asked.append(len(waves)) or waves[:, :8].astype(np.float32), RATE_HZ, 4000)
    failed = embed_recordings(paths, counted, tmp_path / "out", 1000, {}, 2)
    before, asked[:] = content(tmp_path / "out"), []
    assert embed_recordings(paths, counted, tmp_path / "out", 1000, {}, 2) == failed and not asked
    assert content(tmp_path / "out") == before
    soundfile.write(paths[0], tone(3, 9, 1.0), RATE_HZ)
    embed_recordings(paths, counted, tmp_path / "out", 1000, {}, 2)
    assert asked and content(tmp_path / "out") != before


def test_a_check_stopped_at_every_recording_finds_what_it_finds_undisturbed(tmp_path):
    recordings(tmp_path / "in", 8)
    manifest = read_corpus(tmp_path / "in", Auto([Recordings()]))
    wanted = examine(manifest)
    assert any(f.kind == "near duplicate" for f in wanted)
    journal = tmp_path / "check.journal.jsonl"
    for at in range(1, len(manifest.files) + 1):
        with pytest.raises(Stopped):
            examine(manifest, stop_at(at), journal=journal)
    assert len(journal.read_text().splitlines()) == 1 + len(manifest.files)
    assert examine(manifest, journal=journal) == wanted
    assert examine(manifest, model_rate_hz=4000, journal=journal) == examine(manifest, model_rate_hz=4000)


# ------------------------------------------------------------ killed from outside


def killed_and_resumed(command: list[str], kills: int, longest_s: float) -> None:
    """Run a command with SIGKILL at random moments, each run going on from the last, and then to its end."""
    rng = random.Random(0)
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "audiorep", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0, longest_s))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run([sys.executable, "-m", "audiorep", *command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 3), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", ["pretrain", "embed", "check"])
def test_twenty_kills_at_random_moments_change_nothing(verb, toy_corpus, tmp_path):
    given = {
        "pretrain": [f"corpus={toy_corpus}", *TINY, "trainer.max_steps=60", "trainer.checkpoint_every_s=0.2"],
        "embed": [f"recordings={tmp_path / 'in'}", f"model={tmp_path / 'model'}", "hop_s=0.02"],
        "check": [f"corpus={tmp_path / 'in'}"],
    }[verb]
    recordings(tmp_path / "in", 400)
    if verb == "embed":
        assert run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'model'}", *TINY) == 0
    out = {name: tmp_path / name / ("check.json" if verb == "check" else "out") for name in ("whole", "cut")}
    began = time.monotonic()
    killed_and_resumed([verb, *given, f"out={out['whole']}"], 0, 0)
    more = [] if verb == "check" else ["resume=true"]
    killed_and_resumed([verb, *given, f"out={out['cut']}", *more], 20, time.monotonic() - began)
    names = {"pretrain": ["model.safetensors", "metrics.json"], "embed": ["embeddings.parquet", "quarantine.csv"]}
    for name in names.get(verb, ["check.json"]):
        a, b = ((p.parent if verb == "check" else p) / name for p in out.values())
        assert a.read_bytes() == b.read_bytes(), name


# ------------------------------------------------------------ a thousand files

GOOD, WAYS = 950, 10


def broken(folder: Path) -> list[Path]:
    """Fifty files that are broken in ten ways."""
    whole = folder / "whole.wav"
    soundfile.write(whole, tone(0, 0), RATE_HZ)
    wav = whole.read_bytes()
    soundfile.write(folder / "whole.flac", tone(1, 1, 4.0), RATE_HZ)
    flac = (folder / "whole.flac").read_bytes()
    whole.unlink()
    (folder / "whole.flac").unlink()
    ways = {
        "empty.wav": b"",
        "text.wav": b"this is no sound",
        "header.wav": wav[:20],
        "no_samples.wav": wav[:44],
        "half.wav": wav[: len(wav) // 2],
        "no_rate.wav": wav[:24] + bytes(4) + wav[28:],
        "no_channels.wav": wav[:22] + bytes(2) + wav[24:],
        "codec.wav": wav[:20] + b"\xfe\x7f" + wav[22:],
        "half.flac": flac[: len(flac) // 2],
        "zeros.ogg": bytes(4000),
    }
    assert len(ways) == WAYS
    paths = []
    for i in range(50 // WAYS):
        for name, data in ways.items():
            paths.append(folder / f"{i}_{name}")
            paths[-1].write_bytes(data)
    return paths


def test_of_a_thousand_files_the_fifty_broken_ones_are_named_and_the_others_done(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("audiorep.verbs.embed.open_embedder", lambda *given: FIRST)
    (tmp_path / "model").write_text("of no account here")
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(GOOD):
        soundfile.write(folder / f"good_{i:03d}.wav", tone(i % 4, i, 0.1), RATE_HZ)
    bad = {path.name for path in broken(folder)}
    out = tmp_path / "out"
    assert run("embed", f"model={tmp_path / 'model'}", f"recordings={folder}", f"out={out}") == 3
    said = capsys.readouterr().err
    assert "50 recording(s) left out" in said and "950 of 1000 recording(s)" in said
    entries = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()[1:]]
    failed = {Path(e["unit"]).name: e["reason"] for e in entries if e["status"] == "failed"}
    assert set(failed) == bad and all(failed.values()) and len(entries) == 1000
    named = (out / "quarantine.csv").read_text()
    assert all(name in named for name in bad)
    check = tmp_path / "check.json"
    assert run("check", f"corpus={folder}", f"out={check}") == 1
    found = json.loads(check.read_text())["findings"]
    assert {Path(f["path"]).name for f in found if f["severity"] == "error"} == bad


def test_embedding_leaves_out_what_is_on_the_quarantine_list(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("audiorep.verbs.embed.open_embedder", lambda *given: FIRST)
    (tmp_path / "model").write_text("of no account here")
    recordings(tmp_path / "in", 4)  # the third is broken
    given = [f"model={tmp_path / 'model'}", f"recordings={tmp_path / 'in'}"]
    assert run("check", f"corpus={tmp_path / 'in'}", "quarantine=true") == 1
    listed = (tmp_path / "in" / "quarantine.csv").read_text()
    add_to_quarantine(
        tmp_path / "in", {str(tmp_path / "in" / "000.wav"): "rain", str(tmp_path / "in" / "002.wav"): "x"}
    )
    assert run("embed", *given, f"out={tmp_path / 'out'}") == 0, listed
    said = (tmp_path / "out" / "quarantine.csv").read_text()
    assert "quarantined: rain" in said and "002.wav" in said and "2 of 2 recording(s)" in capsys.readouterr().err
    reasons = {str(path): "rain" for path in (tmp_path / "in").glob("*.wav")}
    add_to_quarantine(tmp_path / "in", reasons)
    assert "is on its quarantine list" in refused(capsys, "embed", *given, f"out={tmp_path / 'none'}")


# ------------------------------------------------------------ a day in one file

DAY = """
import json, sys
import numpy as np, pyarrow.parquet as pq
from pathlib import Path
from audiorep.apply.embed import Embedder, embed_recordings
path, out, rate = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
from audiorep.rehearsal import memory_bytes as held
seen = []
def run(waves):  # where in its window the loudest sample is, how loud, and 510 more numbers
    seen.append(held())
    at = np.abs(waves).argmax(1)
    told = np.stack([at, np.abs(waves).max(1)], 1).astype(np.float32)
    return np.concatenate([told, np.zeros((len(waves), 510), np.float32)], 1)
embed_recordings([path], Embedder(run, rate, rate), out, rate, {}, 64)
last = held()  # before this test reads what was written
with pq.ParquetFile(out / "embeddings.parquet") as file:
    found = [(s, e[0]) for i in range(file.num_row_groups) for s, e in zip(*(file.read_row_group(i)[n].to_pylist()
             for n in ("start_s", "embedding"))) if e[1] > 0.1]
print(json.dumps({"found": found, "first": seen[len(seen) // 4], "later": seen[-1], "joined": last}))
"""


def test_a_day_in_one_file_needs_little_memory_and_its_last_event_is_where_it_is(tmp_path):
    rate, hours = 4000, 24
    frames = hours * 3600 * rate
    events = [1234567, frames - 3, frames - 3 * rate + 17]
    path = tmp_path / "day.wav"
    soundfile.write(path, np.zeros(1, np.int16), rate, subtype="PCM_16")
    header = bytearray(path.read_bytes()[:44])
    header[4:8], header[40:44] = (36 + 2 * frames).to_bytes(4, "little"), (2 * frames).to_bytes(4, "little")
    with path.open("wb") as file:  # sparse: what was not written is zero, and takes no room
        file.write(header)
        file.truncate(44 + 2 * frames)
        for event in events:
            file.seek(44 + 2 * event)
            file.write((20000).to_bytes(2, "little"))
    done = subprocess.run(
        [sys.executable, "-c", DAY, str(path), str(tmp_path / "out"), str(rate)], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sorted(round(start * rate) + int(at) for start, at in told["found"]) == sorted(events)
    all_rows = frames / rate * 512 * 4  # bytes of the embeddings
    assert told["later"] - told["first"] < all_rows / 8, told
    assert told["joined"] - told["later"] < all_rows / 1.5 and told["joined"] < 1e9, (
        told
    )  # reading a part needs room once


def test_a_dry_run_tells_time_memory_and_disk_and_writes_nothing(toy_corpus, tmp_path, capsys):
    recordings(tmp_path / "in", 6)
    assert run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'model'}", "evaluation.protocol=[knn]", *TINY) == 0
    commands = [
        ("pretrain", f"corpus={toy_corpus}", *TINY),
        ("train", f"corpus={toy_corpus}", "objective=supervised", "encoder.width=8", "encoder.dim=32"),
        ("embed", f"model={tmp_path / 'model'}", f"recordings={tmp_path / 'in'}"),
        ("check", f"corpus={tmp_path / 'in'}"),
    ]
    for command in commands:
        capsys.readouterr()
        out = tmp_path / "here" / ("x.json" if command[0] == "check" else "x")
        assert run(*command, f"out={out}", "dry_run=true") == 0
        said = capsys.readouterr().err
        assert "nothing was written" in said and "memory" in said and "free" in said, said
        assert not out.parent.exists()
    assert "none of 1" in refused(
        capsys, "embed", f"model={tmp_path / 'model'}", f"recordings={tmp_path / 'in' / '003.wav'}", "dry_run=true",
        f"out={tmp_path / 'y'}",
    )  # fmt: skip
