"""Whatever is written is read as it was: every format that we write, with rows that hypothesis makes up."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotated import RATE_HZ, SECONDS, frames, labels, texts, wav
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiorep.data.audio import probe, read
from audiorep.data.formats import hoplite_write
from audiorep.data.formats.animal_spot import AnimalSpot
from audiorep.data.formats.audacity import Audacity
from audiorep.data.formats.audio_folder import AudioFolder
from audiorep.data.formats.birdnet import BirdNET
from audiorep.data.formats.birdnet_folders import BirdNETFolders
from audiorep.data.formats.esc50 import Esc50
from audiorep.data.formats.generic_seq import GenericSeq
from audiorep.data.formats.hoplite import Hoplite, read_annotations, read_windows
from audiorep.data.formats.raven import Raven
from audiorep.data.formats.simple_seq import SimpleSeq
from audiorep.data.formats.table import Table
from audiorep.data.formats.writers import WRITERS
from audiorep.data.manifest import Format, canonical

EXAMPLES = int(os.environ.get("AUDIOREP_EXAMPLES", "20"))
"""Of each format; a hundred times as many go through in an hour."""

often = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seldom = settings(often, max_examples=max(1, EXAMPLES // 2))
hertz = st.integers(1, 4_000_000).map(lambda n: n / 1000)
scores = st.floats(0, 1)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three recordings, two of one name."""
    folder = tmp_path_factory.mktemp("recordings")
    return [wav(folder / name, SECONDS) for name in ("north/day 1.wav", "south/day 1.wav", "über.wav")]


@contextmanager
def place(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "out" / name


def again(recordings: Sequence[Path], format: Format, out: Path) -> pd.DataFrame:
    """What `format` reads of annotations at `out`, in order of recording and begin."""
    root = recordings[0].parent.parent
    table = canonical(format.read(root, out), root)
    return table.sort_values(["path", "start_s"], kind="stable").reset_index(drop=True)


def same(found: pd.DataFrame, frame: pd.DataFrame, columns: Sequence[str] = ()) -> None:
    for name in ("path", "label"):
        assert found[name].tolist() == frame[name].tolist()
    for name in ("start_s", "end_s"):
        np.testing.assert_allclose(found[name], frame[name], rtol=0, atol=5.1e-7)
    for name in columns:
        assert found[name].tolist() == frame[name].tolist(), name


def root(recordings: Sequence[Path]) -> dict[str, Path]:
    """Two of them have one name."""
    return {"root": recordings[0].parent.parent}


@often
@given(data=st.data())
@pytest.mark.parametrize("together", [False, True])
def test_what_is_written_as_raven_is_read_again(recordings, data, together):
    low, high = hertz, hertz.map(lambda f: f + 4000)
    frame = data.draw(
        frames(
            recordings, texts(), low_hz=low, high_hz=high, channel=st.integers(1, 8), annotator=texts(), mood=texts()
        )
    )
    with place("all.txt" if together else "") as out:
        WRITERS["raven_together" if together else "raven"](
            frame.assign(rate_hz=RATE_HZ), out, **({} if together else root(recordings))
        )
        if not len(frame) and not together:
            assert not out.exists()
            return
        found = again(recordings, Raven("annotation", unannotated=False), out)
    for name in ("low_hz", "high_hz", "channel"):
        np.testing.assert_allclose(found[name].astype(float), frame[name].astype(float), rtol=0, atol=5.1e-4)
    same(found, frame, ["annotator", "mood"])


@often
@given(data=st.data())
def test_what_is_written_as_audacity_is_read_again(recordings, data):
    edge = st.one_of(st.none(), hertz)
    frame = data.draw(frames(recordings, texts(), low_hz=edge, high_hz=edge)).astype(
        {"low_hz": float, "high_hz": float}
    )
    with place("") as out:
        if WRITERS["audacity"](frame, out, **root(recordings)):
            found = again(recordings, Audacity(unannotated=False), out)
            same(found, frame)
            for name in ("low_hz", "high_hz"):
                np.testing.assert_allclose(found[name], frame[name], rtol=0, atol=5.1e-7)


@often
@given(data=st.data())
@pytest.mark.parametrize(
    "name,out_name",
    [
        ("birdnet", "all.txt"),
        ("birdnet_combined", "all.csv"),
        ("birdnet_combined", "all.parquet"),
        ("birdnet_labels", ""),
    ],
)
def test_what_is_written_as_birdnet_is_read_again(recordings, data, name, out_name):
    plain = labels().filter(lambda text: text.lower() != "nocall")
    more = {"scientific_name": texts(without="_"), "score": scores}
    if name == "birdnet":
        more |= {"species_code": texts(), "low_hz": hertz, "high_hz": hertz, "channel": st.integers(1, 8)}
    frame = data.draw(frames(recordings, plain, **more))
    # a label that is another of the names is no name of its own
    frame = frame[
        (frame["label"] != frame["scientific_name"]) & (frame["label"] != frame.get("species_code", ""))
    ].reset_index(drop=True)
    frame = frame.drop_duplicates(["path", "start_s", "end_s", "label"]).reset_index(drop=True)
    with place(out_name) as out:
        if not WRITERS[name](
            frame.assign(rate_hz=RATE_HZ), out, **(root(recordings) if name == "birdnet_labels" else {})
        ):
            return
        found = again(recordings, BirdNET(unannotated=False), out)
    same(found, frame, [one for one in ("scientific_name", "score", "species_code") if one in frame])
    for one in ("low_hz", "high_hz", "channel"):
        if one in frame:
            np.testing.assert_allclose(found[one].astype(float), frame[one].astype(float), rtol=0, atol=5.1e-4)


@often
@given(data=st.data())
def test_what_is_written_as_generic_seq_is_read_again(recordings, data):
    frame = data.draw(
        frames(
            recordings,
            labels(),
            digits=15,
            sequence=st.integers(0, 9),
            annotation=st.integers(0, 9),
            annot_path=texts(),
        )
    )
    with place("all.csv") as out:
        WRITERS["generic_seq"](frame.assign(rate_hz=RATE_HZ), out)
        found = again(recordings, GenericSeq(unannotated=False), out)
    same(found, frame, ["start_s", "end_s", "annot_path"])
    for name in ("sequence", "annotation"):
        assert found[name].astype(int).tolist() == frame[name].tolist()
    if len(frame):
        assert found["onset_sample"].astype(int).tolist() == np.rint(frame["start_s"] * RATE_HZ).astype(int).tolist()


@often
@given(data=st.data())
def test_what_is_written_as_simple_seq_is_read_again(recordings, data):
    frame = data.draw(frames(recordings, texts(), digits=15))
    with place("") as out:
        if WRITERS["simple_seq"](frame, out, **root(recordings)):
            same(again(recordings, SimpleSeq(unannotated=False), out), frame, ["start_s", "end_s"])


@often
@given(data=st.data())
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_is_written_as_our_own_table_is_read_again(recordings, data, ending):
    frame = data.draw(frames(recordings, texts(), note=texts(), group=labels()))
    with place(f"all.{ending}") as out:
        out.parent.mkdir()
        WRITERS["table"](frame, out)
        same(canonical(Table().read(out, None), out), frame, ["note", "group"])


@seldom
@given(data=st.data())
def test_hoplite_keeps_times_to_the_bit(recordings, data):
    name = labels(without="|").filter(lambda text: not text.startswith("-"))
    site = st.sampled_from([("", "", None, None), ("A", "p", 1.5, -2.25), ("B", "p", None, None), ("A", "q", 3.0, 4.0)])
    frame = data.draw(frames(recordings, name, digits=15, kind=st.integers(0, 2), provenance=labels(), low_hz=hertz))
    where = {path: data.draw(site) for path in sorted(set(frame["path"]))}
    sites = pd.DataFrame(
        [where[path] for path in frame["path"]], columns=["deployment", "project", "lat", "lon"]
    ).astype({"lat": float, "lon": float})
    when = frame["path"].map({path: data.draw(st.datetimes()).isoformat() for path in where})
    kind = frame.pop("kind")
    plain = frame["label"]
    frame = frame.assign(
        label=("-" + plain).where(kind == 0, plain.where(kind == 1, "")), uncertain=plain.where(kind == 2, "")
    )
    frame = frame.assign(recorded_at=when).join(sites)
    with place("db") as out:
        hoplite_write.write_hoplite(frame, out)
        raw = read_annotations(out)
        found = again(recordings, Hoplite(unannotated=False), out)
    assert len(raw) == len(frame)
    found = found[found["label"].ne("") | found["uncertain"].ne("")].reset_index(drop=True)
    same(
        found,
        frame,
        ["start_s", "end_s", "uncertain", "provenance", *(["low_hz", "recorded_at"] if len(frame) else [])],
    )
    if len(frame):
        named = frame["deployment"] != ""
        for one in ("deployment", "project"):
            assert found[one][named].tolist() == frame[one][named].tolist()
        for one in ("lat", "lon"):
            np.testing.assert_array_equal(found[one][named].astype(float), frame[one][named])


@seldom
@given(data=st.data())
def test_hoplite_keeps_embeddings_in_half_precision(recordings, data):
    pytest.importorskip("usearch", reason="usearch is not installed (audiorep[hoplite])")
    frame = data.draw(frames(recordings, texts(without="|-")))
    embeddings = np.random.default_rng(len(frame)).normal(size=(len(frame), 16)).astype(np.float32)
    with place("db") as out:
        hoplite_write.write_hoplite(frame, out, embeddings)
        windows, found = read_windows(out)
    first = frame.drop_duplicates(["path", "start_s", "end_s"])
    assert len(windows) == len(first)
    if len(frame):
        assert windows[["start_s", "end_s"]].to_numpy().tolist() == first[["start_s", "end_s"]].to_numpy().tolist()
        np.testing.assert_array_equal(found, embeddings[first.index].astype(np.float16).astype(np.float32))


def clips_match(found: pd.DataFrame, frame: pd.DataFrame) -> None:
    """The clips' samples are those of the rows."""
    for path, (_, row) in zip(found["path"], frame.iterrows(), strict=True):
        info = probe(path)
        first = round(row["start_s"] * RATE_HZ)
        np.testing.assert_array_equal(read(path, 0, info.frames), read(row["path"], first, info.frames))
        assert info.frames == round(row["end_s"] * RATE_HZ) - first


def milliseconds(
    paths: list[Path], label: st.SearchStrategy[str], **more: st.SearchStrategy
) -> st.SearchStrategy[pd.DataFrame]:
    return frames(paths, label, digits=3, **more)


@seldom
@given(data=st.data())
def test_what_is_written_as_animal_spot_is_read_again(recordings, data):
    part = labels(without="_/\\.-")
    frame = data.draw(
        milliseconds(
            recordings,
            part,
            info=st.one_of(st.just(""), labels(without="/\\.")),
            id=part,
            year=st.integers(1900, 2100).map(str),
            tape=part,
        )
    )
    with place("") as out:
        files = WRITERS["animal_spot"](frame, out)
        if not files:
            return
        found = AnimalSpot().read(out, None).set_index("path").loc[[str(path) for path in files]].reset_index()
        clips_match(found, frame)
    for name in ("label", "info", "year", "tape"):
        assert found[name].tolist() == frame[name].tolist()
    assert all(new == old or new.startswith(f"{old}-") for new, old in zip(found["id"], frame["id"], strict=True))
    np.testing.assert_allclose(found["tape_start_s"], frame["start_s"], atol=1e-9)
    assert found["group"].tolist() == (frame["year"] + "_" + frame["tape"]).tolist()


@seldom
@given(data=st.data())
def test_what_is_written_as_esc50_is_read_again(recordings, data):
    frame = data.draw(
        milliseconds(recordings, labels(), fold=st.integers(1, 5), target=st.integers(0, 49), group=labels())
    )
    with place("") as out:
        files = WRITERS["esc50"](frame, out)
        found = Esc50().read(out, None)
        clips_match(found, frame)
    assert len(files) == len(frame) + 1
    assert found["label"].tolist() == frame["label"].tolist()
    assert found["group"].tolist() == frame["group"].tolist()
    for name in ("fold", "target"):
        assert found[name].astype(int).tolist() == frame[name].tolist()


@seldom
@given(data=st.data())
def test_what_is_written_as_audio_folder_is_read_again(recordings, data):
    split = data.draw(
        st.sampled_from(
            [st.just("train"), st.sampled_from(["train", "validation", "test"]), st.sampled_from(["", "odd"])]
        )
    )
    frame = data.draw(milliseconds(recordings, texts(), split=split, note=texts(), score=scores))
    with place("") as out:
        files = WRITERS["audio_folder"](frame, out)
        found = AudioFolder().read(out, None)
        tables = [path for path in files if path.suffix == ".jsonl"]
        order = [str(path) for path in files if path.suffix != ".jsonl"]
        found = found.set_index("path").loc[order].reset_index()
        clips_match(found, frame)
    assert found["label"].tolist() == frame["label"].tolist()
    assert len(tables) == max(
        1, frame["split"].nunique() if set(frame["split"]) <= {"train", "validation", "test"} else 1
    )
    if len(frame):
        assert found["split"].tolist() == frame["split"].tolist()
        assert found["note"].tolist() == frame["note"].tolist()
        assert found["score"].astype(float).tolist() == frame["score"].tolist()


@seldom
@given(data=st.data())
def test_what_is_written_as_birdnet_folders_is_read_again(recordings, data):
    name = labels(without="|,/\\.-").filter(
        lambda text: text.lower() not in ("noise", "other", "background", "silence")
    )
    absent = st.tuples(st.booleans(), name).map(lambda pair: ("-" if pair[0] else "") + pair[1])
    label = st.one_of(st.lists(absent, min_size=1, max_size=3).map("|".join), st.sampled_from(["noise", "silence"]))
    frame = data.draw(milliseconds(recordings, label))
    with place("") as out:
        files = WRITERS["birdnet_folders"](frame, out)
        if not files:
            return
        found = BirdNETFolders().read(out, None).set_index("path").loc[[str(path) for path in files]].reset_index()
        clips_match(found, frame)
    assert found["label"].tolist() == frame["label"].tolist()
