"""Searching embeddings: the same as brute force whatever the chunks, never stale, honest about the query itself."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from toy import PARTS, RATE_HZ, model_of, tone

from audiorep.apply import rows as rows_module
from audiorep.apply import search as search_module
from audiorep.apply.embed import Embedder
from audiorep.apply.hits import card, clock, shares
from audiorep.apply.index import open_embedded
from audiorep.apply.nearest import nearest, stream_of, unit
from audiorep.apply.novelty import most_novel, novel_to, novel_within
from audiorep.apply.query import Box, embed_query, query_of, query_windows, window_starts
from audiorep.apply.search import distinct, find
from audiorep.cli import main
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.model import ModelInfo, save_model

WINDOW_S, HOP_S = 0.5, 0.25


def run(*arguments: object) -> int:
    """Exit status of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused command prints."""
    assert run("search", *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("audiorep: ")]
    assert len(lines) == 1
    return lines[0]


def half(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Rows of length 1 as float16."""
    return unit(np.random.default_rng(seed).standard_normal((count, width))).astype(np.float16)


def brute_force(queries: np.ndarray, x: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """All products in float64, sorted by similarity and then by number; equal rows are equal to the last bit here."""
    similarity = np.array([[float(np.dot(q.astype(float), row.astype(float))) for row in x] for q in unit(queries)])
    order = np.array([np.lexsort((np.arange(len(x)), -s.round(14)))[:top] for s in similarity])
    return order, np.take_along_axis(similarity, order, 1)


def leave(
    folder: Path, x: np.ndarray, hop_s: float = 1.0, window_s: float = 1.0, recordings: int = 1, **told: object
) -> Path:
    """A folder as `audiorep embed` leaves it, of rows side by side in so many recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-len(x) // recordings)
    number = np.arange(len(x))
    table = {
        "path": pa.array([f"/r{i // each}.wav" for i in number], pa.string()),
        "start_s": (number % each) * hop_s,
        "end_s": (number % each) * hop_s + window_s,
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float32).ravel()), x.shape[1]),
    }
    plain = {"compression": "none", "use_dictionary": False}  # of one size, whatever the numbers are
    pq.write_table(pa.table(table), folder / "embeddings.parquet", row_group_size=37, **plain)
    about = {"model": "m", "fingerprint": "f", "sample_rate_hz": 1000, "window_samples": round(1000 * window_s)}
    (folder / "embed.json").write_text(json.dumps(about | {"hop_samples": round(1000 * hop_s)} | told))
    return folder


@pytest.mark.parametrize("size", [None, 1, 7, 64, 1000])
@pytest.mark.parametrize("top", [1, 10, 300])
def test_the_nearest_equal_brute_force_whatever_the_chunks_and_ties_go_by_number(size, top):
    x = half(300, 16)
    x[40:90], x[200:230] = x[3], x[5]  # ties, over the edges of chunks
    queries = np.concatenate([np.random.default_rng(1).standard_normal((5, 16)), 7.0 * x[[3, 5]].astype(float)])
    found = nearest(queries, stream_of(x), top, size=size)
    rows, similarity = brute_force(queries, x, top)
    assert np.array_equal(found.rows, rows)
    assert np.abs(found.similarity - similarity).max() < 1e-12
    assert found.rows[5, : min(top, 10)].tolist() == [3, *range(40, 90)][: min(top, 10)]


def test_the_nearest_agree_with_float32_and_with_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    x, queries = half(2000, 64), np.random.default_rng(2).standard_normal((20, 64)).astype(np.float32)
    found = nearest(queries, stream_of(x), 15)
    plain = (torch.from_numpy(unit(queries)) @ torch.from_numpy(x).float().T).topk(15)
    assert np.array_equal(found.rows, plain.indices.numpy())
    assert np.abs(found.similarity - plain.values.numpy()).max() < 1e-6
    peer = NearestNeighbors(n_neighbors=15, metric="cosine", algorithm="brute").fit(x.astype(np.float32))
    assert np.array_equal(peer.kneighbors(queries, return_distance=False), found.rows)


def test_a_crowd_of_rows_within_the_rounding_of_float32_is_put_in_the_right_order():
    rng = np.random.default_rng(3)
    x = np.repeat(half(1, 256, 4), 500, 0)
    x[np.arange(500), rng.integers(0, 256, 500)] += np.float16(2e-5)  # differences near those of a float32 sum
    query = rng.standard_normal((1, 256)).astype(np.float32) * 1e-3 + x[:1].astype(np.float32)
    rows, _ = brute_force(query, x, 50)
    for size in (64, 333):
        assert np.array_equal(nearest(query, stream_of(x), 50, size=size).rows, rows)


def test_rows_that_are_left_out_are_not_found_and_too_few_are_said():
    x = half(30, 8)
    out = np.array([0, 0, 1]), np.array([4, 17, 29])
    found = nearest(x[[4, 29]].astype(float), stream_of(x), 30, out, size=11)
    assert set(found.rows[0].tolist()) == {-1, *range(30)} - {4, 17} and set(found.rows[1].tolist()) == {-1, *range(29)}
    assert np.isneginf(found.similarity[0, -2:]).all() and np.isfinite(found.similarity[0, :-2]).all()


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of the file that a test can cross."""
    for module in ("audiorep.apply.rows", "audiorep.apply.index"):
        monkeypatch.setattr(f"{module}.BATCH", 16)


@pytest.mark.usefixtures("small_batches")
def test_the_file_of_rows_holds_what_was_embedded_at_length_one(tmp_path):
    x = np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32) * 30.0
    x[7], x[50] = 0.0, np.nan
    opened = open_embedded(leave(tmp_path, x, recordings=3))
    kept = np.delete(np.arange(100), [7, 50])
    rows = opened.rows
    assert (len(rows), rows.width, opened.window_s) == (98, 6, 1.0)
    wanted = unit(x[kept]).astype(np.float16)
    for size in (5, 16, 1000):
        firsts, parts = zip(*rows.chunks(size), strict=True)
        assert np.array_equal(np.concatenate(parts), wanted) and max(map(len, parts)) <= size
        assert list(firsts) == np.cumsum([0, *map(len, parts)])[:-1].tolist()
    some = np.array([97, 0, 33, 33, 15, 16])
    assert np.array_equal(rows.take(some), wanted[some])
    places = rows.places(some)
    assert places["path"].tolist() == [f"/r{kept[i] // 34}.wav" for i in some]
    assert places["start_s"].tolist() == [kept[i] % 34 for i in some] and len(rows.places(some[:0])) == 0
    home = rows.of({"/r1.wav", "/none.wav"})
    assert [kept[i] for i in home["row"]] == [i for i in range(34, 68) if i != 50] and set(home["path"]) == {"/r1.wav"}
    recording, start_s = rows.clocks()
    assert recording.tolist() == (kept // 34).tolist() and start_s.tolist() == (kept % 34).tolist()


def test_the_file_of_rows_is_made_once_and_again_when_the_embeddings_change(tmp_path):
    def made() -> tuple[int, float]:
        rows = open_embedded(tmp_path).rows
        return rows.path.stat().st_mtime_ns, float(next(rows.chunks())[1][0, 0])

    leave(tmp_path, half(40, 4, 0))
    first = made()
    assert made() == first
    source = tmp_path / "embeddings.parquet"
    before = source.stat()
    leave(tmp_path, half(40, 4, 1))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.stat().st_size == before.st_size  # only the footer tells
    second = made()
    assert second[1] == float(half(40, 4, 1)[0, 0]) != first[1]
    leave(tmp_path, half(40, 4, 1), fingerprint="g")
    assert made()[0] != second[0]
    index = tmp_path / "search.arrow"
    index.write_bytes(index.read_bytes()[:-100])  # cut off
    assert made()[1] == second[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embed.json", "embeddings.parquet", "search.arrow"]


def test_another_place_for_the_file_of_rows(tmp_path):
    leave(tmp_path / "e", half(5, 4))
    assert open_embedded(tmp_path / "e", tmp_path / "x" / "rows.arrow").rows.path.is_file()
    assert not (tmp_path / "e" / "search.arrow").exists()


def test_embeddings_that_cannot_be_searched_are_refused(tmp_path):
    with pytest.raises(AudiorepError, match=r"no embeddings\.parquet there"):
        open_embedded(tmp_path)
    leave(tmp_path / "none", np.empty((0, 4)))
    with pytest.raises(AudiorepError, match="holds no embedding that can be searched"):
        open_embedded(tmp_path / "none")
    assert not (tmp_path / "none" / "search.arrow").exists()
    folder = leave(tmp_path / "old", half(3, 4))
    about = json.loads((folder / "embed.json").read_text())
    del about["fingerprint"]
    (folder / "embed.json").write_text(json.dumps(about))
    with pytest.raises(AudiorepError, match="does not tell fingerprint"):
        open_embedded(folder)
    folder = leave(tmp_path / "broken", half(3, 4))
    (folder / "embeddings.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(AudiorepError, match="not readable as Parquet"):
        open_embedded(folder)
    folder = leave(tmp_path / "other", half(3, 4))
    pq.write_table(pa.table({"path": ["a"], "start_s": [0.0], "end_s": [1.0]}), folder / "embeddings.parquet")
    with pytest.raises(AudiorepError, match="no column 'embedding'"):
        open_embedded(folder)


def test_one_hit_a_stretch_equals_a_written_out_loop_however_few_rows_are_looked_at_first(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    x = np.repeat(rng.standard_normal((40, 8)), 10, 0) + 0.05 * rng.standard_normal((400, 8))  # ten rows alike in turn
    rows = open_embedded(leave(tmp_path, x, hop_s=0.1, recordings=4)).rows
    stored = np.concatenate([part for _, part in rows.chunks()])
    queries = rng.standard_normal((3, 8))
    wanted = []
    for order in brute_force(queries, stored, 400)[0]:
        kept: list[int] = []
        for i in order:
            if all(i // 100 != j // 100 or abs(i - j) >= 10 for j in kept):
                kept.append(int(i))
        wanted.append(kept[:12])
    for spare in (1, 2, 100):
        monkeypatch.setattr(search_module, "SPARE", spare)
        found = find(rows, list(queries[:, None]), 12, 1.0)
        assert [one.rows.tolist() for one in found] == wanted
    everything = find(rows, list(queries[:, None]), 1000, 1.0)[0].rows
    assert len(everything) < 100 and everything[:12].tolist() == wanted[0]


def test_distinct_keeps_what_begins_exactly_so_far_apart():
    starts = [0.3, 0.1, 0.1 + 0.2 + 0.3, 0.0]
    assert distinct(["a"] * 4, starts, 0.3, 9).tolist() == [0, 2, 3]
    assert distinct(["a", "b", "c", "d"], starts, 0.3, 3).tolist() == [0, 1, 2]


def test_the_best_of_several_vectors_counts(tmp_path):
    rows = open_embedded(leave(tmp_path, half(200, 8))).rows
    stored = next(rows.chunks())[1].astype(float)
    vectors = np.random.default_rng(6).standard_normal((5, 8))
    best = (unit(vectors).astype(float) @ stored.T).max(0)
    found = find(rows, [vectors, vectors[:1]], 20)
    assert found[0].rows.tolist() == np.argsort(-best, kind="stable")[:20].tolist()
    assert np.allclose(found[0].similarity, np.sort(best)[::-1][:20], atol=1e-9)
    assert found[1].rows.tolist() == np.argsort(-(unit(vectors[:1]) @ stored.T)[0], kind="stable")[:20].tolist()


def test_vectors_of_another_width_are_refused(tmp_path):
    rows = open_embedded(leave(tmp_path, half(5, 4))).rows
    with pytest.raises(AudiorepError, match=r"gives 6 numbers a window, the embeddings in .* have 4"):
        find(rows, [np.ones((1, 6))], 2)


def test_novelty_is_one_less_the_largest_cosine_to_anything_known(tmp_path):
    x, y = half(120, 8, 7), half(50, 8, 8)
    y[10] = x[33]
    rows, known = (open_embedded(leave(tmp_path / n, part)).rows for n, part in (("a", x), ("b", y)))
    novelty, alike = novel_to(rows, known)
    xs, ys = (next(one.chunks())[1].astype(float) for one in (rows, known))
    cosine = (xs / np.linalg.norm(xs, axis=1, keepdims=True)) @ ys.T
    assert np.allclose(novelty, 1.0 - cosine.max(1), atol=1e-6) and alike.tolist() == cosine.argmax(1).tolist()
    assert abs(novelty[33]) < 1e-3 and alike[33] == 10
    found = most_novel(rows, novelty, alike, known, 5)
    assert found["row"].tolist() == np.argsort(-novelty)[:5].tolist() and found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert found["like_start_s"].tolist() == [float(alike[row]) for row in found["row"]]
    with pytest.raises(AudiorepError, match="embeddings of 6 numbers"):
        novel_to(rows, open_embedded(leave(tmp_path / "c", half(4, 6))).rows)


def test_novelty_within_looks_past_a_rows_own_stretch(tmp_path):
    rng = np.random.default_rng(9)
    x = np.repeat(rng.standard_normal((2, 8)), [60, 60], 0) + 0.3 * rng.standard_normal((120, 8))
    x[30:33] = 5.0 * rng.standard_normal(8)  # one odd sound in three overlapping windows
    rows = open_embedded(leave(tmp_path, x, hop_s=0.5, recordings=2)).rows
    xs = next(rows.chunks())[1].astype(float)
    cosine = (xs / np.linalg.norm(xs, axis=1, keepdims=True)) @ xs.T
    number = np.arange(120)
    near = (number[:, None] // 60 == number // 60) & (abs(number[:, None] - number) < 3)  # 3 hops of 0.5 s: 1.5 s
    wanted = 1.0 - np.sort(np.where(near, -9.0, cosine), 1)[:, -4]
    novelty, alike = novel_within(rows, 4, None, apart_s=1.5)
    assert np.allclose(novelty, wanted, atol=1e-6)
    assert alike.tolist() == np.where(near, -9.0, cosine).argmax(1).tolist()
    assert set(np.argsort(-novelty)[:3].tolist()) == {30, 31, 32}
    found = most_novel(rows, novelty, alike, rows, 2, 1.5)
    assert found["row"][0] in (30, 31, 32) and found["row"][1] not in (30, 31, 32)
    a, b, c = (novel_within(rows, 2, 40, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_row_without_any_other_has_no_novelty(tmp_path):
    rows = open_embedded(leave(tmp_path, half(1, 4))).rows
    with pytest.raises(AudiorepError, match="no other stretch to compare it with"):
        novel_within(rows)


@pytest.mark.parametrize(
    "start, count, total, wanted",
    [
        (100, 20, 1000, [60]),  # around its middle
        (10, 20, 1000, [0]),  # moved into the recording
        (980, 20, 1000, [900]),
        (0, 60, 60, [0]),  # shorter than a window: what follows is silence
        (100, 100, 1000, [100]),
        (100, 250, 1000, [100, 150, 200, 250]),  # first and last window inside, at most a hop apart
        (100, 201, 1000, [100, 134, 167, 201]),
    ],
)
def test_the_windows_of_a_query_stay_inside_it(start, count, total, wanted):
    assert window_starts(start, count, total, 100, 50).tolist() == wanted


def echo(rate_hz: int, window: int) -> Embedder:
    """A model that gives its input."""
    return Embedder(lambda waves: waves, rate_hz, window)


def test_a_query_is_cut_where_it_lies_at_the_models_rate(tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    windows = np.concatenate(list(query_windows(query_of(tmp_path / "a.wav", Box(0.5, 1.5)), echo(8000, 4000), 2000)))
    assert windows.shape == (3, 4000)
    for k, first in enumerate((4000, 6000, 8000)):
        assert np.allclose(windows[k], wave[first : first + 4000], atol=1e-7)


@pytest.mark.parametrize("low, high, kept", [(1000, 2000, 1500), (2500, None, 3200), (None, 500, 250)])
def test_outside_the_band_nothing_is_left_and_inside_the_phase_is_kept(tmp_path, low, high, kept):
    t = np.arange(16000) / 8000
    parts = {hz: 0.2 * np.sin(2 * np.pi * hz * t) for hz in (250, 1500, 3200)}
    soundfile.write(tmp_path / "a.wav", sum(parts.values()), 8000, subtype="FLOAT")
    query = query_of(tmp_path / "a.wav", Box(0.5, 1.0, low, high))
    (found,) = np.concatenate(list(query_windows(query, echo(8000, 4000), 2000)))
    assert np.abs(found - parts[kept][4000:8000]).max() < 0.004  # of 0.2: 2 %
    for hz in set(parts) - {kept}:
        assert abs(np.dot(found, np.exp(-2j * np.pi * hz * t[:4000]))) / 4000 < 0.0005


def test_boxes_that_are_none_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    for box, words in [
        (Box(0.5, 0.5), "is no stretch"),
        (Box(1.0), "is no stretch"),
        (Box(2.0, 3.0), "outside the recording, which is 1 s long"),
        (Box(0.0, 1.2), "outside the recording"),
        (Box(low_hz=2000, high_hz=1000), "2000 to 1000 Hz is no band"),
        (Box(low_hz=4000), "is no band of a recording at 8000 Hz"),
    ]:
        with pytest.raises(AudiorepError, match=words):
            query_of(tmp_path / "a.wav", box)
    assert query_of(tmp_path / "a.wav", Box(0.9, 1.02)).end_s == 1.0  # annotations are rounded
    query = query_of(tmp_path / "a.wav", Box(low_hz=3000))
    with pytest.raises(AudiorepError, match="the model hears nothing above 2000 Hz"):
        list(query_windows(query, echo(4000, 100), 50))
    with pytest.raises(AudiorepError, match="the model gives no embedding of a.wav"):
        embed_query(query_of(tmp_path / "a.wav"), echo(8000, 100), 50)


def test_cards_are_shared_and_clocks_told():
    assert shares([50], 60) == [50] and shares([50, 50], 60) == [30, 30]
    assert (
        shares([50] * 100, 20) == [6, 6, 6, 2, *[0] * 96] and shares([], 5) == [] and shares([3, 0, 9], 60) == [3, 0, 9]
    )
    assert [clock(s) for s in (3.25, 59.9999, 3723.25)] == ["3.250 s", "1 min 00.000 s", "1 h 02 min 03.250 s"]


def test_ultrasound_is_heard_slower_and_long_stretches_in_part(tmp_path):
    soundfile.write(tmp_path / "bat.wav", 0.1 * np.random.default_rng(0).standard_normal(50_000), 250_000)
    assert (made := card("1", str(tmp_path / "bat.wav"), 0.0, 0.2)).slower == 10.0 and made.high_khz == 125.0
    soundfile.write(tmp_path / "long.wav", np.zeros(8000 * 12), 8000)
    made = card("1", str(tmp_path / "long.wav"), 0.0, 12.0)
    assert made.notes == ("its first 10 s",) and made.picture and made.slower == 1.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Recordings of six calls each with a little noise between, a model and its embeddings."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("search")
    (folder / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        wave = 0.01 * rng.standard_normal(6 * RATE_HZ).astype(np.float32)
        for k in range(6):
            wave[k * RATE_HZ : k * RATE_HZ + RATE_HZ // 2] += tone((i + k) % 4, 10 * i + k)
        soundfile.write(folder / "recordings" / f"{i}.wav", wave, RATE_HZ, subtype="PCM_16")
    for name in ("model", "another"):
        save_model(model_of(SmallCnn(width=8, dim=32)), PARTS, ModelInfo(RATE_HZ, WINDOW_S), folder / name)
    keys = [f"recordings={folder / 'recordings'}", f"hop_s={HOP_S}", f"out={folder / 'e'}"]
    assert run("embed", f"model={folder / 'model'}", *keys) == 0
    return folder


def searched(place: Path, out: Path, *keys: object) -> pd.DataFrame:
    assert run("search", f"embeddings={place / 'e'}", f"out={out}", *keys) == 0
    return pd.read_csv(out / "hits.csv", keep_default_na=False)


def test_a_stretch_finds_itself_first_and_is_marked_or_left_out(place, tmp_path):
    clip = place / "recordings" / "1.wav"
    keys = [f"query={clip}", "start_s=2", "end_s=2.5", "top=8"]
    hits = searched(place, tmp_path / "a", *keys)
    assert list(hits.columns) == ["query", "rank", "path", "start_s", "end_s", "similarity", "own"]
    assert hits["query"].unique().tolist() == ["1.wav 2.000-2.500 s"] and hits["rank"].tolist() == list(range(1, 9))
    first = hits.iloc[0]
    assert (first["path"], first["start_s"], first["end_s"], first["own"]) == (str(clip), 2.0, 2.5, "itself")
    assert abs(first["similarity"] - 1.0) < 1e-3 and hits["similarity"].is_monotonic_decreasing
    apart = hits.groupby("path")["start_s"].apply(lambda s: np.diff(np.sort(s)).min(initial=9.0))
    assert (apart >= WINDOW_S).all()
    own = [("recording" if path == str(clip) else "") for path in hits["path"][1:]]
    assert hits["own"].tolist()[1:] == own
    without = searched(place, tmp_path / "b", *keys, "leave_out_itself=true", "distinct_s=0")
    overlap = (without["path"] == str(clip)) & (without["start_s"] < 2.5) & (without["end_s"] > 2.0)
    assert not overlap.any() and len(without) == 8


def test_the_hits_equal_cosines_of_the_parquet_file(place, tmp_path):
    table = pq.read_table(place / "e" / "embeddings.parquet").to_pandas()
    x = unit(np.stack(table["embedding"]))
    hits = searched(
        place, tmp_path, f"query={place / 'recordings' / '0.wav'}", "windows=best", "distinct_s=0", "top=999"
    )
    assert len(hits) == len(x) == 4 * 23
    mine = x[(table["path"] == hits["path"][0]).to_numpy()]  # a whole recording is heard by its own windows
    wanted = (x @ mine.T).max(1)
    found = hits.merge(table.assign(wanted=wanted), on=["path", "start_s"])
    assert len(found) == len(x) and np.abs(found["similarity"] - found["wanted"]).max() < 2e-3


def test_a_table_of_boxes_asks_one_query_a_row_with_its_band(place, tmp_path):
    lines = [
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\tAnnotation",
        "1\tSpectrogram 1\t1\t1.0\t1.5\t500\t3000\t2.wav\tup",
        "2\tSpectrogram 1\t1\t3.0\t3.5\t0\t4000\t3.wav\tflat",
    ]
    table = tmp_path / "boxes.txt"
    table.write_text("\n".join(lines) + "\n")
    hits = searched(
        place, tmp_path / "o", f"query={table}", f"recordings={place / 'recordings'}", "top=3", "format.unannotated=false",
        "format=raven",
    )  # fmt: skip
    asked = pd.read_csv(tmp_path / "o" / "queries.csv")
    assert asked["name"].tolist() == ["2.wav 1.000-1.500 s 500-3000 Hz", "3.wav 3.000-3.500 s"]
    assert (
        asked["low_hz"].tolist()[0] == 500.0
        and np.isnan(asked["low_hz"][1])
        and asked["label"].tolist() == ["up", "flat"]
    )
    assert hits["query"].tolist() == [name for name in asked["name"] for _ in range(3)]
    plain = searched(
        place, tmp_path / "p", f"query={table}", f"recordings={place / 'recordings'}", "top=3", "format.unannotated=false",
        "format=raven", "bands=false",
    )  # fmt: skip
    assert abs(plain["similarity"][0] - 1.0) < 1e-3 and hits["similarity"][0] < plain["similarity"][0]


def test_the_page_needs_nothing_else_and_says_what_cannot_be_shown(place, tmp_path):
    folder = tmp_path / "moved"
    folder.mkdir()
    for path in sorted((place / "recordings").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    keys = [f"recordings={folder}", f"out={tmp_path / 'e'}"]
    assert run("embed", f"model={place / 'model'}", *keys) == 0
    (folder / "1.wav").write_bytes(b"RIFF nothing")
    (folder / "2.wav").unlink()
    query = folder / "3 <b>.wav"
    (folder / "3.wav").rename(query)
    out = tmp_path / "o"
    assert run("search", f"embeddings={tmp_path / 'e'}", f"query={query}", f"out={out}", "top=99", "cards=30") == 0
    page = (out / "hits.html").read_text()
    hits = pd.read_csv(out / "hits.csv")
    assert len(hits) == 48 and page.startswith("<!doctype html>")
    assert page.count('class="card hit"') == 30
    assert "This page shows 30 of 48 hits (cards=30)" in page and "18 further hit(s)" in page
    shown = hits.iloc[:30]["path"].map(lambda path: Path(path).name)
    lost = shown.isin(["1.wav", "2.wav", "3.wav"]).sum()
    assert 0 < lost < 30 and page.count("Cannot be shown: ") == lost
    assert page.count('src="data:image/png;base64,') == page.count('src="data:audio/flac;base64,') == 31 - lost
    assert page.count('alt="Spectrogram of ') == page.count('aria-label="Sound of ') == 31 - lost
    assert "<b>.wav" not in page and "<script" not in page and not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_novel_sounds_come_first(place, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    wave = soundfile.read(place / "recordings" / "0.wav", dtype="float32")[0]
    wave[2 * RATE_HZ : 2 * RATE_HZ + RATE_HZ // 2] = np.random.default_rng(1).uniform(-0.9, 0.9, RATE_HZ // 2)
    soundfile.write(folder / "odd.wav", wave, RATE_HZ, subtype="PCM_16")
    assert run("embed", f"model={place / 'model'}", f"recordings={folder}", f"out={tmp_path / 'e'}") == 0
    out = tmp_path / "o"
    assert run("search", f"embeddings={tmp_path / 'e'}", f"novel_to={place / 'e'}", f"out={out}", "top=3") == 0
    found = pd.read_csv(out / "hits.csv")
    assert found["start_s"][0] == 2.0 and found["novelty"][0] > 10 * max(found["novelty"][1], 1e-4)
    assert "most like" in (out / "hits.html").read_text() and not (out / "queries.csv").exists()
    assert run("search", f"embeddings={place / 'e'}", "novel=true", f"out={out}", "overwrite=true") == 0
    assert pd.read_csv(out / "hits.csv")["novelty"].is_monotonic_decreasing


def test_the_same_search_leaves_the_same_bytes(place, tmp_path):
    for name in "ab":
        searched(place, tmp_path / name, f"query={place / 'recordings' / '3.wav'}", "top=4", "cards=3")
    for name in ("hits.csv", "hits.html", "queries.csv", "search.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_query_that_cannot_be_decoded_is_left_out_and_named(place, tmp_path):
    (tmp_path / "q").mkdir()
    good = (place / "recordings" / "0.wav").read_bytes()
    (tmp_path / "q" / "good.wav").write_bytes(good)
    (tmp_path / "q" / "short.wav").write_bytes(good[:5000])
    assert run("search", f"embeddings={place / 'e'}", f"query={tmp_path / 'q'}", f"out={tmp_path / 'o'}") == 3
    assert "truncated" in (tmp_path / "o" / "quarantine.csv").read_text()
    assert set(pd.read_csv(tmp_path / "o" / "hits.csv")["query"]) == {"good.wav"}


def test_wrong_input_is_one_clear_line(place, tmp_path, capsys):
    clip = place / "recordings" / "0.wav"
    given = [f"embeddings={place / 'e'}", f"out={tmp_path / 'o'}"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for keys, words in [
        ([], "search needs one of query=RECORDING"),
        ([f"query={clip}", "novel=true"], "not query and novel"),
        ([f"query={tmp_path / 'none.wav'}"], "no such file or folder"),
        ([f"query={tmp_path / 'empty'}"], "neither a manifest"),
        ([f"query={clip}", "start_s=7"], "is no stretch"),
        ([f"query={clip}", "start_s=x"], "start_s=x: a number of at least 0"),
        ([f"query={clip}", "top=0"], "top=0: a whole number of at least 1"),
        ([f"query={clip}", "top=2.5"], "top=2.5: a whole number"),
        ([f"query={clip}", "windows=most"], "windows=most: there are mean and best"),
        ([f"query={clip.parent}", "start_s=1"], "go with one recording"),
        ([f"query={clip}", f"model={place / 'another'}"], "not the model that made the embeddings"),
        ([f"query={clip}", f"model={tmp_path / 'none'}"], "no such file or folder"),
        ([f"query={clip}", f"embeddings={tmp_path / 'none'}"], "no embeddings.parquet there"),
        ([f"query={clip}", f"out={tmp_path / 'file'}"], "is a file: name a folder"),
        ([f"novel_to={place / 'e'}"], "novel=true compares a collection with itself"),
        ([f"novel_to={tmp_path / 'empty'}"], "novel_to="),
    ]:
        assert words in refused(capsys, *[key for key in given if key.split("=")[0] not in str(keys)], *keys)
        (tmp_path / "o").exists() and (tmp_path / "o").rmdir()
    other = leave(tmp_path / "other", half(5, 32))
    assert "another model; embed both with one" in refused(capsys, *given, f"novel_to={other}")


def test_embeddings_that_were_moved_from_their_model_say_so(tmp_path, capsys):
    folder = leave(tmp_path / "e", half(5, 32), model=str(tmp_path / "gone"))
    soundfile.write(tmp_path / "q.wav", tone(0, 0), RATE_HZ)
    said = refused(capsys, f"embeddings={folder}", f"query={tmp_path / 'q.wav'}", f"out={tmp_path / 'o'}")
    assert "say model=... where it is now" in said


@pytest.mark.usefixtures("small_batches")
def test_rows_are_mapped_a_batch_at_a_time(tmp_path, monkeypatch):
    rows = open_embedded(leave(tmp_path, half(100, 4))).rows
    opened = []
    whole = pa.memory_map
    monkeypatch.setattr(rows_module.pa, "memory_map", lambda path: opened.append(whole(path)) or opened[-1])
    for first, _ in rows.chunks(16):
        assert sum(not file.closed for file in opened) == 1 and len(opened) == first // 16 + 1
