"""Windows: where they lie, what stands around short calls, what comes back of recordings that cannot be decoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from audiorep.data.audio import to_float
from audiorep.data.formats.table import Table
from audiorep.data.items import side_by_side
from audiorep.data.labels import encode
from audiorep.data.loader import fixed_batches, to_device
from audiorep.data.manifest import Manifest, read_corpus, scan
from audiorep.data.windows import Windows, WindowSpec, choose_length_s
from audiorep.errors import AudiorepError

RATES = [8000, 384000]


def ramp(path: Path, rate_hz: int, seconds: float = 1.0, subtype: str = "PCM_16") -> np.ndarray:
    """A recording in which every sample tells where it is (never 0, rising from -20000 and back)."""
    wave = (np.arange(round(seconds * rate_hz)) % 20000 - 20001).astype(np.int16)
    soundfile.write(path, wave.astype(np.int32) << 16, rate_hz, subtype=subtype)
    return wave


def manifest_of(path: Path | list[Path], rows: list[tuple[float, float]], **columns: list) -> Manifest:
    paths = path if isinstance(path, list) else [path] * len(rows)
    frame = pd.DataFrame({"path": map(str, paths), "start_s": [r[0] for r in rows], "end_s": [r[1] for r in rows]})
    return scan(frame.assign(label="", group="g").assign(**columns))


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Path, np.ndarray]:
    return tmp_path / "a.wav", ramp(tmp_path / "a.wav", 8000)


@pytest.mark.parametrize("rate", RATES)
def test_a_short_call_is_centred_with_the_recording_around_it(tmp_path, rate):
    wave = ramp(tmp_path / "a.wav", rate)
    windows = Windows(manifest_of(tmp_path / "a.wav", [(0.4, 0.5)]), WindowSpec(0.25), rate)
    item = windows[(0, 0, 1, -1)]
    start = round(0.325 * rate)
    assert item["start"] == start and isinstance(item["start"], int)
    assert item["wave"].dtype == torch.int16
    np.testing.assert_array_equal(item["wave"].numpy(), wave[start : start + rate // 4])
    assert item["valid"].all()
    before = round(0.4 * rate) - start
    after = start + rate // 4 - round(0.5 * rate)
    assert abs(before - after) <= 1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("begin,end", [(0.4, 0.5), (0.123456, 0.2345), (0.0, 0.1), (0.95, 1.0)])
def test_outside_zero_silences_and_marks_invalid_exactly_what_lies_outside_the_call(tmp_path, rate, begin, end):
    wave = ramp(tmp_path / "a.wav", rate)
    windows = Windows(manifest_of(tmp_path / "a.wav", [(begin, end)]), WindowSpec(0.25, outside="zero"), rate)
    item = windows[(0, 0, 1, -1)]
    at = item["start"] + np.arange(len(item["wave"]))
    inside = (at >= round(begin * rate)) & (at < round(end * rate))
    np.testing.assert_array_equal(item["valid"].numpy(), inside)
    np.testing.assert_array_equal(item["wave"].numpy()[inside], wave[at[inside]])
    assert not item["wave"].numpy()[~inside].any()


@pytest.mark.parametrize("outside", ["context", "zero"])
def test_a_window_over_the_edge_of_the_file_is_padded_and_invalid_there(recording, outside):
    path, wave = recording
    windows = Windows(manifest_of(path, [(0.0, 0.02), (0.98, 1.0)]), WindowSpec(0.1, outside=outside), 8000)
    head, tail = windows[(0, 0, 1, -1)], windows[(1, 0, 1, -1)]
    assert head["start"] == -320 and tail["start"] == 8000 - 480
    assert not head["valid"][:320].any() and not head["wave"][:320].any()
    assert not tail["valid"][480:].any() and not tail["wave"][480:].any()
    assert head["valid"][320:480].all() and tail["valid"][320:480].all()
    assert bool(head["valid"][480:].all()) == (outside == "context")
    np.testing.assert_array_equal(head["wave"][320:480].numpy(), wave[:160])
    np.testing.assert_array_equal(tail["wave"][320:480].numpy(), wave[-160:])


@pytest.mark.parametrize("rate,target", [(8000, 16000), (384000, 48000), (44100, 16000)])
def test_masks_and_starts_are_at_the_models_rate(tmp_path, rate, target):
    ramp(tmp_path / "a.wav", rate)
    windows = Windows(manifest_of(tmp_path / "a.wav", [(0.4, 0.5)]), WindowSpec(0.2, outside="zero"), target)
    item = windows[(0, 0, 1, -1)]
    assert len(item["wave"]) == len(item["valid"]) == round(0.2 * target)
    at = (item["start"] + np.arange(len(item["wave"]))) / target
    inside = (at > 0.4 + 1 / target) & (at < 0.5 - 1 / target)
    outside = (at < 0.4 - 1 / target) | (at > 0.5 + 1 / target)
    assert item["valid"].numpy()[inside].all() and not item["valid"].numpy()[outside].any()
    assert item["start"] == pytest.approx(0.35 * target, abs=1)
    assert not item["wave"].numpy()[outside].any() and item["wave"].numpy()[inside].all()


def test_a_long_row_is_cropped_inside_at_a_place_that_depends_on_the_draw(recording):
    path, wave = recording
    windows = Windows(manifest_of(path, [(0.2, 0.9)]), WindowSpec(0.1), 8000)
    starts = []
    for draw in range(60):
        item = windows[(0, 0, 1, draw)]
        starts.append(item["start"])
        np.testing.assert_array_equal(item["wave"].numpy(), wave[item["start"] : item["start"] + 800])
    assert min(starts) >= 1600 and max(starts) + 800 <= 7200
    assert len(set(starts)) > 40 and min(starts) < 2200 and max(starts) > 5800
    assert [windows[(0, 0, 1, draw)]["start"] for draw in range(60)] == starts
    assert len({windows[(0, k, 1, 7)]["start"] for k in range(20)}) > 15


def test_a_short_row_does_not_depend_on_the_draw(recording):
    windows = Windows(manifest_of(recording[0], [(0.4, 0.5)]), WindowSpec(0.1), 8000)
    assert {windows[(0, k, 1, draw)]["start"] for k in range(3) for draw in (-1, 0, 5)} == {3200}


def test_fixed_windows_are_evenly_spaced_inside_the_row(recording):
    windows = Windows(manifest_of(recording[0], [(0.1, 0.95), (0.4, 0.45)]), WindowSpec(0.1, per_row=4), 8000)
    items = windows.fixed_items()
    assert [(row, k, of) for row, k, of, _ in items] == [(0, 0, 4), (0, 1, 4), (0, 2, 4), (0, 3, 4), (1, 0, 1)]
    assert windows.windows_per_row().tolist() == [8, 1]
    starts = [windows[item]["start"] for item in items[:4]]
    assert min(starts) >= 800 and max(starts) + 800 <= 7600
    steps = np.diff(starts)
    assert steps.min() > 0 and np.ptp(steps) <= 1
    assert abs((starts[0] - 800) - (7600 - 800 - starts[-1])) <= 1


@pytest.mark.parametrize("seconds", [0.2, 0.1, 0.07, 0.013])
def test_every_window_that_fits_side_by_side_has_a_slot_of_its_own_and_others_the_nearest(recording, seconds):
    path, _ = recording
    windows = Windows(manifest_of(path, [(0.0, 1.0), (0.3, 0.31), (0.2, 0.95)]), WindowSpec(seconds), 8000)
    items = side_by_side(windows.windows_per_row())
    assert windows.slots.tolist() == [0, *np.cumsum(windows.windows_per_row()).tolist()]
    assert windows.batch(items)["slot"].tolist() == list(range(len(items)))
    drawn = np.array([[row, k, 1, 7] for row in range(3) for k in range(40)])
    batch = windows.batch(drawn)
    for row, slot, start in zip(drawn[:, 0], batch["slot"].tolist(), batch["start"].tolist(), strict=True):
        assert windows.slots[row] <= slot < windows.slots[row + 1]
        of_row = windows.place(items[items[:, 0] == row])
        spacing = (of_row[-1] - of_row[0]) / max(1, len(of_row) - 1)
        assert abs(start - of_row[slot - windows.slots[row]]) <= spacing / 2 + 2 or len(of_row) == 1


def test_a_long_row_with_a_single_window_shows_its_middle(recording):
    windows = Windows(manifest_of(recording[0], [(0.2, 0.8)]), WindowSpec(0.1, per_row=1), 8000)
    assert [windows[item]["start"] for item in windows.fixed_items()] == [3600]


def test_24_bit_recordings_give_float_and_mix_with_int16_in_a_batch(tmp_path):
    wave = ramp(tmp_path / "a.wav", 8000)
    ramp(tmp_path / "b.wav", 8000, subtype="PCM_24")
    rows = [(0.2, 0.4), (0.2, 0.4)]
    windows = Windows(manifest_of([tmp_path / "a.wav", tmp_path / "b.wav"], rows), WindowSpec(0.1), 8000)
    items = [windows[item] for item in windows.fixed_items()]
    narrow = [item for item in items if item["index"] == 0]
    wide = [item for item in items if item["index"] == 1]
    assert {item["wave"].dtype for item in narrow} == {torch.int16}
    assert {item["wave"].dtype for item in wide} == {torch.float32}
    batch = to_device(windows.batch(windows.fixed_items()[::2]), torch.device("cpu"))
    assert batch["wave"].dtype == torch.float32 and batch["wave"].shape == (2, 800)
    torch.testing.assert_close(batch["wave"][0], batch["wave"][1])
    start = int(batch["start"][0])
    np.testing.assert_allclose(batch["wave"][0].numpy(), to_float(wave[start : start + 800]), atol=1e-7)


def test_a_batch_of_int16_stays_int16_until_it_is_on_the_device(recording):
    windows = Windows(manifest_of(recording[0], [(0.2, 0.3), (0.5, 0.6)]), WindowSpec(0.1), 8000)
    raw = windows.batch(windows.fixed_items())
    assert raw["wave"].dtype == torch.int16
    moved = to_device(raw, torch.device("cpu"))["wave"]
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, raw["wave"].float() / 32768)
    assert [raw[name].dtype for name in ("index", "group", "start")] == [torch.int64] * 3


def test_windows_from_memory_are_those_from_the_file(recording):
    path, _ = recording
    manifest = manifest_of(path, [(0.4, 0.45), (0.1, 0.9), (0.0, 0.02)])
    for spec in (WindowSpec(0.1), WindowSpec(0.1, outside="zero")):
        kept, fresh = Windows(manifest, spec, 16000), Windows(manifest, spec, 16000, cache_bytes=0)
        for item in [*kept.fixed_items()] * 2:
            for name in ("wave", "valid"):
                assert torch.equal(kept[item][name], fresh[item][name])
        assert 0 < kept.cached == sum(wave.nbytes for wave in kept.cache.values())
        assert fresh.cached == 0
    path.unlink()
    assert "wave" in kept[(0, 0, 1, -1)] and "failed" in fresh[(0, 0, 1, -1)]


@pytest.mark.parametrize("rate_hz", [8000, 12000])
def test_drawn_windows_come_out_of_a_row_in_memory(recording, rate_hz):
    path, _ = recording
    manifest = manifest_of(path, [(0.1, 0.9)])
    kept, fresh = (Windows(manifest, WindowSpec(0.1), rate_hz, cache_bytes=size) for size in (2**20, 0))
    assert kept.rows_fit and not fresh.rows_fit
    for draw in range(5):
        a, b = (windows[(0, 0, 1, draw)] for windows in (kept, fresh))
        assert a["start"] == b["start"] and len(a["wave"]) == len(b["wave"])
        error = (a["wave"].double() - b["wave"].double()).square().mean().sqrt()  # up to half a sample of delay
        assert error == 0 if kept.source_hz[0] % rate_hz == 0 else error < 0.35 * b["wave"].double().std()
    assert kept.cached == sum(wave.nbytes for wave in kept.cache.values()) > 0 and len(kept.cache) == 1
    path.unlink()
    assert "wave" in kept[(0, 0, 1, 99)] and "failed" in fresh[(0, 0, 1, 99)]


def test_the_memory_for_windows_is_bounded(recording):
    rows = [(0.01 * i, 0.01 * i + 0.05) for i in range(50)]
    windows = Windows(manifest_of(recording[0], rows), WindowSpec(0.05), 8000, cache_bytes=10 * 800)
    for item in windows.fixed_items():
        assert "wave" in windows[item]
    assert windows.cached <= 8000


def test_a_channel_is_chosen_by_the_window_or_by_the_row(tmp_path):
    left, right = np.full(8000, 3000, np.int16), np.full(8000, -1000, np.int16)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 8000)
    (tmp_path / "calls.csv").write_text("path,channel\n" + "a.wav,1\na.wav,2\na.wav,\n")
    manifest = read_corpus(tmp_path / "calls.csv", Table())
    plain = replace(manifest, frame=manifest.frame.iloc[:1].drop(columns="channel"))

    def first(manifest: Manifest, channel: int | str, row: int = 0) -> int:
        return int(Windows(manifest, WindowSpec(0.1, channel=channel), 8000)[(row, 0, 1, -1)]["wave"][0])

    assert [first(plain, channel) for channel in (1, 2, "mix")] == [3000, -1000, 1000]
    assert [first(manifest, "mix", row) for row in range(3)] == [3000, -1000, 1000]
    assert [first(manifest, 2, row) for row in range(3)] == [3000, -1000, -1000]
    failed = Windows(plain, WindowSpec(0.1, channel=3), 8000)[(0, 0, 1, -1)]
    assert "channel 3" in failed["failed"][1]


def test_a_channel_that_is_no_number_is_an_error(recording):
    with pytest.raises(AudiorepError, match="column 'channel'"):
        Windows(manifest_of(recording[0], [(0, 1)], channel=["left"]), WindowSpec(0.1), 8000)


def test_labels_groups_and_rows_come_with_the_window(recording):
    manifest = manifest_of(recording[0], [(0, 0.1)] * 3, group=["b", "a", "b"])
    windows = Windows(manifest, WindowSpec(0.1), 8000, encode(["x", "", "y"], ["x", "y"]))
    batch = next(iter(fixed_batches(windows, 8)))
    assert batch["label"].tolist() == [0, -1, 1] and batch["index"].tolist() == [0, 1, 2]
    assert batch["group"].tolist() == [1, 0, 1]
    hot = Windows(manifest, WindowSpec(0.1), 8000, encode(["x|y", "", "-y"], ["x", "y"], multilabel=True))
    label = next(iter(fixed_batches(hot, 8)))["label"].numpy()
    np.testing.assert_array_equal(label, np.array([[1, 1], [np.nan] * 2, [np.nan, 0]], np.float32))
    unlabelled = Windows(manifest, WindowSpec(0.1), 8000)
    assert next(iter(fixed_batches(unlabelled, 8)))["label"].tolist() == [-1, -1, -1]


def broken(tmp_path: Path) -> Windows:
    """Three rows; the second file lost its end after it was indexed."""
    for name in ("a", "b", "c"):
        ramp(tmp_path / f"{name}.flac", 8000)
    paths = [tmp_path / f"{name}.flac" for name in ("a", "b", "c")]
    manifest = manifest_of(paths, [(0.8, 0.9)] * 3)
    paths[1].write_bytes(paths[1].read_bytes()[:600])
    return Windows(manifest, WindowSpec(0.1), 8000)


def test_what_cannot_be_decoded_comes_back_as_failed_with_its_row_and_reason(tmp_path):
    windows = broken(tmp_path)
    row, reason = windows[(1, 0, 1, -1)]["failed"]
    assert row == 1 and "b.flac" in reason and "\n" not in reason


def test_a_batch_leaves_out_what_failed_and_reports_it(tmp_path):
    windows = broken(tmp_path)
    batch = windows.batch(windows.fixed_items())
    assert batch["index"].tolist() == [0, 2] and batch["wave"].shape == (2, 800)
    assert [row for row, _ in batch["failed"]] == [1]
    assert "failed" not in windows.batch([(0, 0, 1, -1)])


def test_a_batch_of_which_everything_failed_is_empty_and_says_why(tmp_path):
    batch = broken(tmp_path).batch([(1, 0, 1, -1)] * 2)
    assert batch.keys() == {"index", "failed"} and len(batch["index"]) == 0
    assert len(batch["failed"]) == 2 and all("b.flac" in reason for _, reason in batch["failed"])


@pytest.mark.parametrize("length_s", [0.0, -1.0])
def test_windows_without_length_are_refused(length_s):
    with pytest.raises(AudiorepError, match=r"window\.length_s"):
        WindowSpec(length_s)


def test_the_window_chosen_holds_nine_calls_in_ten_but_no_more_than_five_seconds():
    durations = np.linspace(0.1, 1.0, 1000)
    length = choose_length_s(durations)
    assert 0.88 < np.mean(durations <= length) < 0.92
    assert choose_length_s(np.full(10, 3600.0)) == 5.0
    assert choose_length_s(np.full(10, 0.001)) > 0


@pytest.mark.corpora
@pytest.mark.parametrize("name", ["fsdd", "finch_bird0", "killer_whale_catalogue", "esc10"])
def test_windows_of_real_corpora_decode(corpora, name):
    manifest = read_corpus(corpora / name / "labels.csv", Table())
    rows = np.linspace(0, len(manifest) - 1, 24).astype(int)
    for rate in (8000, 32000):
        windows = Windows(manifest.take(rows), WindowSpec(0.2, outside="zero"), rate)
        batches = list(fixed_batches(windows, 16))
        assert not any("failed" in batch for batch in batches)
        waves = torch.cat([to_device(batch, torch.device("cpu"))["wave"] for batch in batches])
        valid = torch.cat([batch["valid"] for batch in batches])
        assert waves.shape[1] == round(0.2 * rate) and set(torch.cat([b["index"] for b in batches]).tolist()) == {
            *range(24)
        }
        assert float(waves[~valid].abs().sum()) == 0 and valid.any(1).all()
        assert (waves.abs().amax(1) > 1e-4).float().mean() > 0.8
