"""What the page shows and plays: everything stands where the axes say, and what cannot be shown says why."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from audiorep.errors import AudioError
from audiorep.label.clips import Clip
from audiorep.label.media import LONGEST_S, WIDTH, around, samples_of, sound_wav, spectrogram_png

RATE_HZ = 32000


def save(folder: Path, wave: np.ndarray, rate_hz: int = RATE_HZ, **kind: object) -> Path:
    path = folder / "a.wav"
    soundfile.write(path, wave, rate_hz, **({"subtype": "PCM_16"} | kind))
    return path


def sine(hz: float, seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def clip(start: int, end: int, rate_hz: int = RATE_HZ, channel: int = 0) -> Clip:
    return Clip("id", "a.wav", start, end, rate_hz, channel)


def picture(folder: Path, of: Clip, context_s: float = 0.0, **how: object) -> np.ndarray:
    """Brightness, the lowest frequency in row 0."""
    image = Image.open(io.BytesIO(spectrogram_png(around(of, folder, context_s), **how)))
    assert image.format == "PNG" and image.mode == "P"
    return np.asarray(image)[::-1].astype(int)


def heard(folder: Path, of: Clip, context_s: float = 0.0, slower: float = 1.0) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(sound_wav(around(of, folder, context_s), slower)))


def pitch(wave: np.ndarray, rate_hz: int) -> float:
    """The strongest frequency."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(power.argmax() * rate_hz / len(wave))


@pytest.mark.parametrize("width, height", [(800, 256), (220, 96), (50, 32), (2000, 1000)])
@pytest.mark.parametrize("seconds", [0.004, 0.7, 9.0])
def test_the_picture_has_the_size_that_was_asked_for(tmp_path, width, height, seconds):
    save(tmp_path, sine(3000, seconds))
    of = clip(0, round(seconds * RATE_HZ))
    assert picture(tmp_path, of, width=width, height=height).shape == (height, width)


@pytest.mark.parametrize("hz", [500, 4000, 12000, 15500])
@pytest.mark.parametrize("seconds", [0.05, 3.0])
def test_a_tone_stands_in_the_row_of_its_frequency_counted_upwards(tmp_path, hz, seconds):
    save(tmp_path, sine(hz, seconds))
    bright = picture(tmp_path, clip(0, round(seconds * RATE_HZ))).sum(1)
    assert abs(bright.argmax() - 256 * hz / (RATE_HZ / 2)) <= 2


@pytest.mark.parametrize("low, high, hz", [(2000.0, 6000.0, 5000), (9000.0, 9500.0, 9100), (0.0, 1e6, 4000)])
def test_within_a_band_a_tone_stands_in_its_row_too(tmp_path, low, high, hz):
    save(tmp_path, sine(hz, 1.0))
    bright = picture(tmp_path, clip(0, RATE_HZ), low_hz=low, high_hz=high).sum(1)
    top = min(high, RATE_HZ / 2)
    assert abs(bright.argmax() - 256 * (hz - low) / (top - low)) <= 4


def test_a_tone_outside_the_band_is_not_drawn(tmp_path):
    noise = 0.001 * np.random.default_rng(0).standard_normal(RATE_HZ)
    save(tmp_path, sine(1000, 1.0) + noise)
    of = clip(0, RATE_HZ)
    everything, above = picture(tmp_path, of), picture(tmp_path, of, low_hz=4000.0, high_hz=9000.0)
    assert everything.max() == 255 and everything.sum(1).argmax() in range(14, 19)
    rows = above.sum(1)
    assert rows.max() < 1.5 * rows.min()  # noise alone, the same everywhere


@pytest.mark.parametrize("low, high", [(5000.0, 5000.0), (9000.0, 2000.0), (40000.0, None), (0.0, 1.0)])
def test_a_band_that_is_none_or_too_narrow_still_gives_a_picture(tmp_path, low, high):
    save(tmp_path, sine(3000, 0.5))
    assert picture(tmp_path, clip(0, RATE_HZ // 2), low_hz=low, high_hz=high).shape == (256, 800)


@pytest.mark.parametrize("at_s", [0.1, 0.5, 1.3])
def test_a_click_stands_in_the_column_of_its_time(tmp_path, at_s):
    wave = 1e-4 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)
    wave[round(at_s * RATE_HZ)] = 0.9
    save(tmp_path, wave)
    bright = picture(tmp_path, clip(0, 2 * RATE_HZ)).sum(0)
    assert abs(bright.argmax() - at_s / 2.0 * WIDTH) <= 3


def test_a_click_in_a_very_short_clip_stands_in_its_column(tmp_path):
    """The picture ends where the clip ends, even if one analysis window is longer than the clip."""
    wave = np.zeros(320)
    wave[240] = 0.9
    save(tmp_path, wave)
    bright = picture(tmp_path, clip(0, 320), height=32).sum(0)
    middle = np.flatnonzero(bright > 0.9 * bright.max())
    assert abs(middle.mean() - 0.75 * WIDTH) < 0.1 * WIDTH


def test_a_click_between_two_columns_of_a_long_clip_is_not_lost(tmp_path):
    wave = 1e-4 * np.random.default_rng(0).standard_normal(round(LONGEST_S) * 8000)
    wave[100_003] = 0.9
    save(tmp_path, wave, 8000)
    bright = picture(tmp_path, clip(0, len(wave), 8000), width=50, height=32).sum(0)
    assert bright.argmax() == 100_003 * 50 // len(wave)


def test_context_at_the_start_and_at_the_end_of_a_recording_is_what_there_is(tmp_path):
    save(tmp_path, np.arange(RATE_HZ) / RATE_HZ * 0.9)
    first, last = clip(100, 200), clip(RATE_HZ - 200, RATE_HZ - 100)
    start, end = around(first, tmp_path, 1.0), around(last, tmp_path, 0.01)
    assert (start.start, start.count) == (0, RATE_HZ)
    assert (end.start, end.count) == (RATE_HZ - 520, 520)
    assert end.end_s == 1.0
    assert samples_of(end)[-1] == pytest.approx(0.9, abs=1e-3)


def test_the_picture_of_a_clip_with_context_shows_the_clip_where_the_page_draws_its_box(tmp_path):
    wave = np.zeros(2 * RATE_HZ)
    wave[RATE_HZ : RATE_HZ + RATE_HZ // 4] = sine(3000, 0.25)
    save(tmp_path, wave)
    bright = picture(tmp_path, clip(RATE_HZ, RATE_HZ * 5 // 4), 0.5)[40:56].mean(0)
    loud = np.flatnonzero(bright > 0.5 * bright.max())
    assert abs(loud[0] - 0.4 * WIDTH) < 8 and abs(loud[-1] - 0.6 * WIDTH) < 8  # half a window


def test_no_more_than_the_longest_is_drawn_from_the_start_on(tmp_path):
    save(tmp_path, np.zeros(50 * 8000), 8000)
    stretch = around(clip(8000, 45 * 8000, 8000), tmp_path, 0.5)
    assert (stretch.start_s, stretch.end_s) == (0.5, 0.5 + LONGEST_S)


def test_a_channel_of_its_own_is_shown_and_played(tmp_path):
    save(tmp_path, np.stack([sine(1000, 1.0), sine(9000, 1.0)], 1))
    for channel, hz in ((1, 1000), (2, 9000)):
        of = clip(0, RATE_HZ, channel=channel)
        assert abs(picture(tmp_path, of).sum(1).argmax() - 256 * hz / 16000) <= 2
        assert pitch(*heard(tmp_path, of)) == pytest.approx(hz, abs=5)


def test_a_tone_that_goes_on_is_drawn_without_a_click_where_the_picture_begins_and_ends(tmp_path):
    save(tmp_path, sine(3000, 2.0))
    shown = picture(tmp_path, clip(RATE_HZ // 2, RATE_HZ))
    assert shown[200:].max() == 0  # far above the tone
    assert np.abs(np.diff(shown[:, [0, 400, 799]].astype(int), axis=1)).max() <= 16


def test_contrast_brightens_what_is_quiet(tmp_path):
    save(tmp_path, sine(3000, 1.0) + 0.001 * np.random.default_rng(0).standard_normal(RATE_HZ))
    of = clip(0, RATE_HZ)
    assert picture(tmp_path, of, range_db=20.0).mean() < picture(tmp_path, of, range_db=100.0).mean() - 50


def test_silence_is_drawn_and_played(tmp_path):
    save(tmp_path, np.zeros(RATE_HZ))
    drawn = picture(tmp_path, clip(0, RATE_HZ))
    assert drawn.shape == (256, 800) and not drawn.any()
    wave, rate = heard(tmp_path, clip(0, RATE_HZ))
    assert rate == RATE_HZ and not wave.any()


def test_sound_is_played_as_it_is_and_as_loud_as_it_can_be(tmp_path):
    save(tmp_path, 0.01 * sine(1000, 2.0))
    wave, rate = heard(tmp_path, clip(RATE_HZ // 2, RATE_HZ))
    assert (rate, len(wave)) == (RATE_HZ, RATE_HZ // 2)
    assert np.abs(wave).max() == pytest.approx(0.9, abs=0.01)
    assert pitch(wave, rate) == pytest.approx(1000, abs=5)


def test_ultrasound_ten_times_slower_is_a_tenth_as_high_at_a_rate_that_browsers_play(tmp_path):
    save(tmp_path, sine(50_000, 0.2, 192_000), 192_000)
    of = clip(0, 38_400, 192_000)
    wave, rate = heard(tmp_path, of, slower=10.0)
    assert rate == 19_200 and len(wave) == 38_400  # no sample was made or lost
    assert pitch(wave, rate) == pytest.approx(5000, abs=5)


@pytest.mark.parametrize(
    "rate_hz, slower, played", [(192_000, 1.0, 48_000), (44_100, 10.0, 8000), (250_000, 2.0, 48_000)]
)
def test_a_rate_that_browsers_do_not_play_is_changed_and_the_pitch_is_kept(tmp_path, rate_hz, slower, played):
    save(tmp_path, sine(8000, 0.5, rate_hz), rate_hz)
    wave, rate = heard(tmp_path, clip(0, rate_hz // 2, rate_hz), slower=slower)
    assert rate == played
    assert len(wave) / rate == pytest.approx(0.5 * slower, abs=0.01)
    assert pitch(wave, rate) == pytest.approx(8000 / slower, rel=0.01)


def test_faster_than_life_is_higher(tmp_path):
    save(tmp_path, sine(1000, 1.0, 8000), 8000)
    assert pitch(*heard(tmp_path, clip(0, 8000, 8000), slower=0.25)) == pytest.approx(4000, abs=10)


def test_a_recording_that_has_become_shorter_is_shown_as_far_as_it_goes_or_refused(tmp_path):
    save(tmp_path, sine(1000, 1.0))
    assert around(clip(RATE_HZ // 2, 2 * RATE_HZ), tmp_path, 0.0).count == RATE_HZ // 2
    with pytest.raises(AudioError, match="ends before this clip begins"):
        around(clip(2 * RATE_HZ, 3 * RATE_HZ), tmp_path, 0.5)


def test_a_recording_at_another_rate_than_when_it_was_indexed_is_refused(tmp_path):
    save(tmp_path, sine(1000, 1.0, 16000), 16000)
    with pytest.raises(AudioError, match="16000 Hz now, 32000 Hz when it was indexed"):
        around(clip(0, 100), tmp_path, 0.0)


def test_a_missing_recording_is_refused_in_one_line(tmp_path):
    with pytest.raises(AudioError, match="no such file") as refused:
        around(clip(0, 100), tmp_path, 0.0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound at all" * 100])
def test_a_corrupt_recording_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav") as refused:
        around(clip(0, 100), tmp_path, 0.0)
    assert "\n" not in str(refused.value)


def test_a_truncated_recording_and_one_with_nan_are_refused(tmp_path):
    path = save(tmp_path, sine(1000, 1.0))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AudioError, match="truncated"):
        around(clip(0, 100), tmp_path, 0.0)
    save(tmp_path, np.full(RATE_HZ, np.nan, np.float32), subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        spectrogram_png(around(clip(0, 100), tmp_path, 0.0))


def test_a_channel_that_is_not_there_is_refused(tmp_path):
    save(tmp_path, sine(1000, 1.0))
    with pytest.raises(AudioError, match="channel 2"):
        sound_wav(around(clip(0, 100, channel=2), tmp_path, 0.0))
