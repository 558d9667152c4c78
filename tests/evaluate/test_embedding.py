"""Embeddings of rows: the mel baseline sees valid frames only, windows of a row are averaged, failures are reported."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from toy import RATE_HZ, tone

from audiorep.compress import Compress
from audiorep.data.manifest import scan
from audiorep.data.windows import Windows, WindowSpec
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.vit import Vit
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import Extracted, embed_rows, extract_with, mel_statistics
from audiorep.evaluate.pieces import pieces
from audiorep.evaluate.tokens import Keeping, pool_time
from audiorep.frontend import KaldiFbank, Mel
from audiorep.model import Model


def windows_of(folder: Path, seconds: list[float], length_s: float = 0.25, **keys) -> Windows:
    """A row for each duration, every one a whole recording."""
    paths = [folder / f"{i}.flac" for i in range(len(seconds))]
    for i, (path, duration) in enumerate(zip(paths, seconds, strict=True)):
        soundfile.write(path, tone(i % 4, i, duration), RATE_HZ)
    frame = pd.DataFrame({"path": map(str, paths), "start_s": 0.0, "end_s": np.nan, "label": "", "group": "g"})
    return Windows(scan(frame), WindowSpec(length_s, **keys), RATE_HZ)


def moments(batch: dict) -> dict[str, Extracted]:
    """Mean and power of a window, and its samples ten by ten as tokens; and where it starts."""
    wave, start = batch["wave"], batch["start"][:, None].float()
    both = torch.stack([wave.mean(1), wave.square().mean(1)], 1)
    return {"": Extracted(both, wave.unflatten(1, (-1, 10))), "start": Extracted(start, start[:, None])}


@pytest.mark.parametrize("first", [0, 40])
def test_mel_statistics_equal_a_loop_over_the_valid_frames(first):
    rng = torch.Generator().manual_seed(0)
    spec, valid = torch.randn(3, 1, 5, 11, generator=rng), torch.zeros(3, 1000, dtype=torch.bool)
    valid[0, 250:640], valid[1, :] = True, True
    valid[2, 300:301] = True
    ours = mel_statistics(spec, valid, 100, first)
    assert ours.shape == (3, 10)
    for b in range(3):
        frames = [n for n in range(11) if valid[b, min(first + 100 * n, 999)]]
        frames = frames or list(range(11))
        kept = spec[b, 0][:, frames].double().numpy()
        np.testing.assert_allclose(ours[b].numpy(), [*kept.mean(1), *kept.std(1)], atol=1e-6)


def test_mel_statistics_do_not_see_what_is_invalid():
    spec, valid = torch.randn(1, 1, 4, 10), torch.zeros(1, 1000, dtype=torch.bool)
    valid[0, 200:700] = True
    other = spec.clone()
    other[..., :2], other[..., 7:] = 1e3, -1e3
    torch.testing.assert_close(mel_statistics(spec, valid, 100), mel_statistics(other, valid, 100))


@pytest.mark.parametrize("frontend", [Mel(RATE_HZ, bands=16), KaldiFbank(RATE_HZ, bands=16)])
def test_the_mel_baseline_sees_the_frames_that_lie_in_the_call(frontend):
    """A burst in silence, marked valid: the baseline's mean is that of the frames centred on it."""
    wave, valid = torch.zeros(1, 4000), torch.zeros(1, 4000, dtype=torch.bool)
    wave[0, 1600:2400] = torch.from_numpy(tone(2, 0, 0.1))
    valid[0, 1600:2400] = True
    model = Model(frontend, Compress(), SmallCnn(width=4, dim=8)).eval()
    batch = {"wave": wave, "valid": valid, "index": torch.zeros(1, dtype=torch.int64)}
    with torch.inference_mode():
        spec = model.spectrogram(wave)[0, 0].double().numpy()
        out = extract_with({"": model})(batch)
    half = 0 if frontend.center else frontend.win_length / 2
    centres = half + frontend.hop_length * np.arange(spec.shape[1])
    kept = spec[:, (centres >= 1600) & (centres < 2400)]
    np.testing.assert_allclose(out["mel"].pooled[0].numpy(), [*kept.mean(1), *kept.std(1)], rtol=1e-4, atol=1e-4)
    frames = out["mel"].tokens[0]
    np.testing.assert_allclose(frames[~frames.isnan().any(1)].numpy(), kept.T, rtol=1e-4, atol=1e-4)


def test_embeddings_of_a_row_are_the_mean_over_its_windows(tmp_path):
    windows = windows_of(tmp_path, [0.25, 1.3, 0.1, 5.0], per_row=4)
    out = embed_rows(windows, moments, batch_size=3)
    assert out.known.all() and not out.failed
    items = windows.fixed_items()
    assert [sum(item[0] == row for item in items) for row in range(4)] == [1, 4, 1, 4]
    for row in range(4):
        waves = [windows[item]["wave"].float() / 32768 for item in items if item[0] == row]
        expected = np.mean([[w.mean(), w.square().mean()] for w in waves], axis=0)
        np.testing.assert_allclose(out.values[""][row], expected, rtol=1e-5, atol=1e-8)
        starts = [windows[item]["start"] for item in items if item[0] == row]
        np.testing.assert_allclose(out.values["start"][row], [np.mean(starts)], rtol=1e-6)


def test_the_batch_size_plays_no_part_and_progress_is_told(tmp_path):
    windows = windows_of(tmp_path, [0.25, 0.6, 0.1])
    seen: list[tuple[int, int]] = []
    whole = embed_rows(windows, moments, batch_size=100)
    single = embed_rows(windows, moments, batch_size=1, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(single.values[""], whole.values[""], atol=1e-7)
    assert seen == [(i, len(windows.fixed_items())) for i in range(1, len(seen) + 1)] and len(seen) == 4


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_rows_that_cannot_be_decoded_are_unknown_and_reported_and_the_others_are_embedded(tmp_path, batch_size):
    windows = windows_of(tmp_path, [0.3, 0.3, 0.3])
    (tmp_path / "2.flac").write_bytes(b"gone bad")
    out = embed_rows(windows, moments, batch_size)
    assert out.known.tolist() == [True, True, False]
    assert [row for row, _ in out.failed] == [2] and "2.flac" in out.failed[0][1]
    assert out.values[""][:2, 1].min() > 0 and np.isfinite(out.values[""]).all()


def test_a_corpus_of_which_nothing_can_be_decoded_is_an_error(tmp_path):
    windows = windows_of(tmp_path, [0.3, 0.3])
    for path in tmp_path.glob("*.flac"):
        path.write_bytes(b"gone bad")
    with pytest.raises(AudiorepError, match=r"not one of 2 rows.*0\.flac"):
        embed_rows(windows, moments)


def test_the_trained_and_the_random_encoder_see_the_same_spectrogram(tmp_path):
    windows = windows_of(tmp_path, [0.25, 0.25])
    torch.manual_seed(0)
    ours = Model(Mel(RATE_HZ, bands=16), Compress(), SmallCnn(width=4, dim=8)).eval()
    random = Model(Mel(RATE_HZ, bands=32), Compress(), SmallCnn(width=4, dim=8)).eval()
    out = embed_rows(windows, extract_with({"": ours, "random": random}))
    assert {name: value.shape for name, value in out.values.items()} == {"": (2, 8), "random": (2, 8), "mel": (2, 32)}
    with torch.inference_mode():
        wave = torch.stack([windows[item]["wave"] for item in windows.fixed_items()]).float() / 32768
        np.testing.assert_allclose(out.values[""], ours(wave)[0].numpy(), atol=1e-5)
        expected = random.encoder(ours.spectrogram(wave)).pooled.numpy()
    np.testing.assert_allclose(out.values["random"], expected, atol=1e-5)
    assert "mel" not in embed_rows(windows, extract_with({"": ours}, mel=False)).values


def test_tokens_are_kept_window_by_window_where_they_are_asked_for(tmp_path):
    windows = windows_of(tmp_path, [0.25, 1.3, 0.1], per_row=4)
    assert not embed_rows(windows, moments).tokens
    out = embed_rows(windows, moments, batch_size=4, keep=Keeping(6, 2**30))
    assert out.tokens.keys() == {"", "start"} and not out.too_large
    items = windows.fixed_items()
    tokens, there = out.tokens[""].batch(np.array([2, 1]))
    assert tokens.shape == (2, 4 * 200, 10) and there.sum(1).tolist() == [200, 800]
    for place, row in enumerate((2, 1)):
        waves = [windows[item]["wave"].float() / 32768 for item in items if item[0] == row]
        expected = torch.cat(waves).unflatten(0, (-1, 10))
        torch.testing.assert_close(tokens[place][there[place]], expected, rtol=1e-3, atol=1e-6)


def test_tokens_of_a_row_that_cannot_be_decoded_are_not_there(tmp_path):
    windows = windows_of(tmp_path, [0.25, 0.25, 0.25])
    (tmp_path / "1.flac").write_bytes(b"gone bad")
    tokens = embed_rows(windows, moments, keep=Keeping(3, 2**30)).tokens["start"]
    assert tokens.batch(np.array([0, 1, 2]))[1].tolist() == [[True], [False], [True]]


def test_tokens_that_memory_has_no_room_for_are_refused_with_the_remedy(tmp_path):
    windows = windows_of(tmp_path, [0.25, 0.25])
    out = embed_rows(windows, moments, keep=Keeping(2, 8000))
    assert not out.tokens and out.known.all()
    assert "evaluation.tokens.memory_gb" in out.too_large and "evaluation.tokens.per_row" in out.too_large


@pytest.mark.parametrize("encoder", [SmallCnn(width=4, dim=8), Vit(dim=8, depth=1, heads=2, patch=(4, 4))])
def test_encoders_and_mel_have_at_most_so_many_tokens(encoder, tmp_path):
    windows = windows_of(tmp_path, [1.0, 1.0], length_s=1.0)
    models = {"": Model(Mel(RATE_HZ, bands=16), Compress(), encoder).eval()}
    whole = embed_rows(windows, extract_with(models), keep=Keeping(2, 2**30))
    fewer = embed_rows(windows, extract_with(models, tokens_per_window=6), keep=Keeping(2, 2**30))
    for name in ("", "mel"):
        assert whole.tokens[name].values.shape[1] > 6 >= fewer.tokens[name].values.shape[1] > 2
        np.testing.assert_array_equal(whole.values[name], fewer.values[name])
        means = [embedded.tokens[name].batch(np.array([0]))[0][0, :1].float() for embedded in (whole, fewer)]
        assert not torch.equal(*means)


@pytest.mark.parametrize("bands, frames, most, left", [(1, 10, 4, 4), (2, 7, 8, 4), (4, 5, 3, 1), (3, 4, 12, 4)])
def test_pooling_in_time_averages_neighbours_of_one_band(bands, frames, most, left):
    tokens = torch.randn(2, bands * frames, 3)
    tokens[0, 1] = torch.nan
    tokens[1, :2] = torch.nan
    pooled = pool_time(tokens, bands, most)
    size = -(-frames // max(1, most // bands))
    assert pooled.shape == (2, bands * left, 3)
    for b in range(2):
        for band in range(bands):
            for place in range(left):
                whole = range(frames)[place * size : (place + 1) * size]
                kept = [tokens[b, band * frames + n] for n in whole if not tokens[b, band * frames + n].isnan().any()]
                expected = torch.stack(kept).mean(0) if kept else torch.full((3,), torch.nan)
                torch.testing.assert_close(pooled[b, band * left + place], expected, equal_nan=True)


def test_a_batch_in_pieces_is_the_batch():
    raw = {"index": torch.arange(7), "wave": torch.randn(7, 5), "failed": [(9, "gone")]}
    parts = list(pieces(raw, 3))
    assert [len(part["index"]) for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat([part["wave"] for part in parts]), raw["wave"])
    assert not list(pieces({"index": torch.empty(0, dtype=torch.int64), "failed": [(0, "gone")]}, 3))
