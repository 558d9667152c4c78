"""Batches of windows: those of one item at a time and of a plain loop, in whatever order and process they are asked for."""

import pickle
from math import gcd
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from toy import collate

from audiorep.data import audio
from audiorep.data.audio import decode, read_resampled
from audiorep.data.items import side_by_side, uniform
from audiorep.data.labels import encode
from audiorep.data.loader import Floats, StepSampler, fixed_batches, source, to_device, to_floats, train_loader
from audiorep.data.manifest import scan
from audiorep.data.sampler import Shuffled
from audiorep.data.windows import Windows, WindowSpec

FILES = [("a.wav", "PCM_16", 1), ("b.flac", "PCM_16", 2), ("c.wav", "PCM_16", 3), ("d.wav", "PCM_24", 1)]
ROWS = [(0.0, 0.02), (0.5, 0.55), (0.2, 1.9), (1.97, 2.0), (0.0, 2.0)]


def corpus(folder: Path, files: list[tuple[str, str, int]] = FILES, rate_hz: int = 8000) -> pd.DataFrame:
    rows = []
    for number, (name, subtype, channels) in enumerate(files):
        wave = np.random.default_rng(number).uniform(-0.7, 0.7, (2 * rate_hz, channels))
        soundfile.write(folder / name, wave, rate_hz, subtype=subtype)
        rows += [(str(folder / name), start, end) for start, end in ROWS]
    frame = pd.DataFrame(rows, columns=["path", "start_s", "end_s"])
    return frame.assign(label="", group=[f"g{i % 3}" for i in range(len(rows))])


def windows_of(folder: Path, target_hz: int = 8000, cache_bytes: int = 0, outside="context", **keys) -> Windows:
    frame = corpus(folder, **keys)
    labels = encode([["x", "", "y"][i % 3] for i in range(len(frame))], ["x", "y"])
    return Windows(scan(frame), WindowSpec(0.1, outside=outside), target_hz, labels, cache_bytes)


def drawn(windows: Windows, seed: int = 0) -> np.ndarray:
    """Fixed items and drawn ones, mixed."""
    fixed = windows.fixed_items()
    some = fixed.copy()
    some[:, 1], some[:, 2], some[:, 3] = np.arange(len(some)), 1, 99
    return np.random.default_rng(seed).permutation(np.concatenate([fixed, some]))


def plain(windows: Windows, item: np.ndarray) -> dict:
    """One window in so many words, by libsndfile."""
    row, k, of, draw = map(int, item)
    file, target = int(windows.path_of[row]), windows.rate_hz
    rate = int(windows.source_hz[file])
    first, last = int(windows.first[row]), int(windows.last[row])
    length = round(0.1 * rate)
    spare = last - first - length
    if spare <= 0:
        start = first + spare // 2
    elif draw < 0:
        start = first + (spare * (2 * k + 1)) // (2 * of)
    else:
        number = uniform(*(np.array([value]) for value in (draw, row, k)))[0]
        start = first + int(number * (spare + 1))
    unit = rate // gcd(rate, target)
    start -= start % unit if unit <= 16 else 0
    path, channel = str(windows.paths[file]), int(windows.channel[row]) or None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audio, "read", lambda path, start, count, channel, *_: decode(path, start, count, channel))
        wave = read_resampled(path, rate, start, windows.length, target, channel)
    inside = (first, last) if windows.spec.outside == "zero" else (0, int(windows.file_frames[file]))
    low, high = (round((edge - start) * target / rate) for edge in inside)
    at = np.arange(windows.length)
    valid = (at >= low) & (at < high)
    return {"wave": np.where(valid, wave, wave.dtype.type(0)), "valid": valid, "start": round(start * target / rate)}


@pytest.mark.parametrize("target_hz", [8000, 4000, 11025])
@pytest.mark.parametrize("outside", ["context", "zero"])
def test_batches_are_those_of_single_items_and_of_a_plain_loop(tmp_path, target_hz, outside):
    windows = windows_of(tmp_path, target_hz, outside=outside)
    items = drawn(windows)
    narrow = items[windows.path_of[items[:, 0]] < 3]
    for some in (items, narrow):
        batch, singly = windows.batch(some), collate([windows[item] for item in some])
        assert batch.keys() == singly.keys() and "failed" not in batch
        assert batch["wave"].dtype == (torch.float32 if some is items else torch.int16)
        for name, value in singly.items():
            assert torch.equal(batch[name], value) and batch[name].dtype == value.dtype, name
    for item in narrow:
        told, expected = windows[item], plain(windows, item)
        np.testing.assert_array_equal(told["wave"].numpy(), expected["wave"])
        np.testing.assert_array_equal(told["valid"].numpy(), expected["valid"])
        assert told["start"] == expected["start"]


def test_a_batch_does_not_depend_on_its_order(tmp_path):
    windows = windows_of(tmp_path)
    items = drawn(windows)
    order = np.random.default_rng(3).permutation(len(items))
    batch, other = windows.batch(items), windows.batch(items[order])
    assert all(torch.equal(batch[name][order], other[name]) for name in batch)


@pytest.mark.parametrize("cache_bytes", [0, 4000, 2**30])
def test_windows_as_floats_are_those_that_the_device_makes(tmp_path, cache_bytes):
    windows = windows_of(tmp_path, cache_bytes=cache_bytes)
    items = drawn(windows)
    for some in (items, items[windows.path_of[items[:, 0]] < 2]):
        for _ in range(2):  # the second time from memory, as far as it goes
            floats, carried = Floats(windows).__getitems__(some), to_device(windows.batch(some), torch.device("cpu"))
            assert all(torch.equal(floats[name], carried[name]) for name in floats)
    assert windows.cached <= cache_bytes and bool(windows.cache) == (cache_bytes > 0)


def test_the_memory_of_a_batch_is_used_again_when_nobody_holds_any_of_it(tmp_path):
    windows = windows_of(tmp_path)
    items, floats = drawn(windows)[:8], Floats(windows)
    whole, last = floats.__getitems__(items), floats.__getitems__(items[::-1].copy())
    kept, part = whole["wave"].clone(), whole["wave"][2:3, 5:]
    address = whole["wave"].data_ptr()
    del whole
    others = [floats.__getitems__(items[::-1].copy()) for _ in range(4)]
    assert address not in {other["wave"].data_ptr() for other in [last, *others]}
    assert torch.equal(part, kept[2:3, 5:])
    address = others[-1]["wave"].data_ptr()
    del others, last
    assert address == floats.__getitems__(items)["wave"].data_ptr() or len(floats.held) == 3
    assert torch.equal(floats.__getitems__(items)["wave"], kept)


def test_floats_of_16_bits_are_a_32768th():
    wave = torch.randint(-32768, 32768, (3, 1000), dtype=torch.int16)
    assert torch.equal(to_floats(wave), wave.double().div(32768).float())


def test_what_fails_in_a_batch_is_left_out_and_told_in_order(tmp_path):
    windows = windows_of(tmp_path)
    for name in ("b.flac", "d.wav"):
        (tmp_path / name).write_bytes(b"no sound")
    items = drawn(windows)
    batch, singly = windows.batch(items), collate([windows[item] for item in items])
    assert batch["failed"] == singly["failed"] and len(batch["failed"]) == (windows.path_of[items[:, 0]] % 2).sum()
    kept = items[windows.path_of[items[:, 0]] % 2 == 0]
    assert batch["index"].tolist() == kept[:, 0].tolist()
    for name in singly.keys() - {"failed", "wave"}:
        assert torch.equal(batch[name], singly[name]), name
    assert torch.equal(to_device(batch, torch.device("cpu"))["wave"], to_floats(singly["wave"]))
    nothing = windows.batch(items[windows.path_of[items[:, 0]] == 1])
    assert nothing.keys() == {"index", "failed"} and not len(nothing["index"])


def test_places_are_drawn_alike_everywhere_and_by_the_draw_alone(tmp_path):
    windows = windows_of(tmp_path)
    row = 4  # two seconds: 15,200 places
    items = np.array([(row, k, 1, draw) for draw in range(40) for k in range(100)])
    start = windows.place(items)
    assert start.min() >= 0 and start.max() <= 15200
    counts = np.histogram(start, 20, (0, 15201))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 43.8  # chi-squared of 19 degrees of freedom, one in a thousand
    assert len(np.unique(start)) > 3000
    assert start.tolist() == [int(windows.place(tuple(item.tolist()))) for item in items]
    assert abs(np.corrcoef(start[:-1], start[1:])[0, 1]) < 0.06
    assert (windows.place(items) != windows.place(np.add(items, [0, 0, 0, 1]))).mean() > 0.99


def test_windows_begin_where_the_models_rate_has_a_sample(tmp_path):
    for target, unit in ((4000, 2), (2000, 4), (6000, 4), (8000, 1), (11025, 1)):
        windows = windows_of(tmp_path, target)
        start = windows.place(drawn(windows))
        assert not (start % unit).any() and (unit == 1 or (start % (2 * unit)).any())


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_in_this_process_and_in_another_give_the_same(tmp_path, workers):
    windows = windows_of(tmp_path)
    assert isinstance(source(windows, 0), Floats) and source(windows, 1) is windows
    sampler = StepSampler(Shuffled(windows), 8, 5, seed=1)
    expected = [to_device(windows.batch(items), torch.device("cpu")) for items in sampler]
    found = [to_device(batch, torch.device("cpu")) for batch in train_loader(windows, sampler, workers)]
    assert len(found) == 5
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    rows = torch.cat([batch["index"] for batch in fixed_batches(windows, 7, workers)])
    assert rows.tolist() == windows.fixed_items()[:, 0].tolist()


def test_rows_travel_to_a_worker_as_arrays(tmp_path):
    corpus(tmp_path, FILES[:1])
    frame = pd.DataFrame({"path": str(tmp_path / "a.wav"), "start_s": 0.0, "end_s": np.full(20000, 0.1)})
    windows = Windows(scan(frame.assign(label="", group="g")), WindowSpec(0.1), 8000)
    assert len(windows.batch(windows.fixed_items()[:8])["index"]) == 8
    objects = 0

    class Counting(pickle._Pickler):  # the one written in Python, which can be watched
        def save(self, obj, save_persistent_id=True):
            nonlocal objects
            objects += 1
            return super().save(obj, save_persistent_id)

    with (tmp_path / "state").open("wb") as file:
        Counting(file, 5).dump(windows)
    assert objects < 2000  # of 20,000 rows
    assert isinstance(windows.fixed_items(), np.ndarray) and windows.fixed_items().shape == (20000, 4)


def test_items_side_by_side():
    assert side_by_side(np.array([2, 0, 1])).tolist() == [[0, 0, 2, -1], [0, 1, 2, -1], [2, 0, 1, -1]]
