"""Decoding: seeking equals slicing, unusable files are named in one line, resampled windows equal resampled files."""

from math import gcd
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from audiorep.data.audio import is_audio, probe, read, read_resampled, to_float
from audiorep.errors import AudioError

KINDS = [
    ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("wav", "PCM_U8"), ("flac", "PCM_16"), ("ogg", "VORBIS"),
]  # fmt: skip


def noise(count: int = 20000, seed: int = 0, channels: int = 1) -> np.ndarray:
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, channels)).astype(np.float32)
    return wave[:, 0] if channels == 1 else wave


def write(path: Path, wave: np.ndarray, rate_hz: int = 16000, subtype: str | None = "PCM_16") -> Path:
    soundfile.write(path, wave, rate_hz, subtype=subtype)
    return path


def error_of(path: Path, start: int = 0, count: int = 20000) -> str:
    """What a person reads who indexes the file and then decodes it."""
    with pytest.raises(AudioError) as caught:
        probe(path)
        read(path, start, count)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


@pytest.mark.parametrize("ending,subtype", KINDS)
def test_a_stretch_read_by_seeking_equals_the_slice_of_the_whole_file(tmp_path, ending, subtype):
    path = write(tmp_path / f"a.{ending}", noise(), subtype=subtype)
    dtype = "int16" if subtype in ("PCM_16", "PCM_U8", "VORBIS") else "float32"
    whole = soundfile.read(path, dtype=dtype)[0]
    assert np.abs(to_float(whole)).max() > 0.3
    for start, count in [(0, 20000), (0, 1), (1, 4097), (7777, 5000), (19999, 1), (4096, 15904)]:
        part = read(path, start, count)
        assert part.dtype == np.dtype(dtype)
        rounding = 1 if subtype == "VORBIS" else 0  # libsndfile scales by 32767, we by 32768
        np.testing.assert_allclose(
            part.astype(float), whole[start : start + count].astype(float), rtol=0, atol=rounding
        )
    info = probe(path)
    assert (info.rate_hz, info.frames, info.channels, info.dtype) == (16000, 20000, 1, dtype)
    assert info.duration_s == pytest.approx(1.25)


@pytest.mark.parametrize("ending", ["ogg", "mp3"])
def test_a_lossy_file_that_overshoots_full_scale_is_clipped_and_does_not_wrap_around(tmp_path, ending):
    square = 0.999 * np.sign(np.sin(2 * np.pi * 110 * np.arange(16000) / 16000) + 1e-9)
    soundfile.write(tmp_path / f"hot.{ending}", square, 16000)
    floats = soundfile.read(tmp_path / f"hot.{ending}")[0]
    assert np.abs(floats).max() > 1.0
    decoded = to_float(read(tmp_path / f"hot.{ending}", 0, len(floats)))
    np.testing.assert_allclose(decoded, np.clip(floats, -1.0, 1.0), atol=1e-4)


@pytest.mark.parametrize("ending,subtype", KINDS)
def test_what_lies_outside_the_file_is_zero(tmp_path, ending, subtype):
    path = write(tmp_path / f"a.{ending}", noise(2000), subtype=subtype)
    whole = read(path, 0, 2000)
    around = read(path, -300, 2500)
    assert len(around) == 2500 and not around[:300].any() and not around[2300:].any()
    np.testing.assert_array_equal(around[300:2300], whole)
    for start in (-500, 2000, 9000):
        nothing = read(path, start, 500)
        assert len(nothing) == 500 and not nothing.any() and nothing.dtype == whole.dtype


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_channel_is_chosen_counting_from_one_and_a_mix_is_the_mean(tmp_path, subtype):
    path = write(tmp_path / "a.wav", noise(3000, channels=3), subtype=subtype)
    whole = soundfile.read(path, dtype="int16" if subtype == "PCM_16" else "float32")[0]
    for channel in (1, 2, 3):
        np.testing.assert_array_equal(read(path, 10, 500, channel), whole[10:510, channel - 1])
    mean = whole[10:510].astype(np.float64).mean(1)
    np.testing.assert_allclose(read(path, 10, 500), mean, atol=0.51 if subtype == "PCM_16" else 1e-6)
    for channel in (4, 0, -1):
        with pytest.raises(AudioError, match=r"a\.wav: has 3 channel\(s\), channel"):
            read(path, 0, 100, channel)


def test_a_mix_of_full_scale_channels_does_not_wrap_around(tmp_path):
    loud = np.full((1000, 2), 32767, np.int16)
    assert (read(write(tmp_path / "a.wav", loud), 0, 1000) == 32767).all()


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in error_of(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"gone\.wav"):
        read(tmp_path / "gone.wav", 0, 10)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_an_empty_file_is_named(tmp_path, ending):
    path = tmp_path / f"empty.{ending}"
    path.write_bytes(b"")
    assert "0 bytes" in error_of(path)
    with pytest.raises(AudioError, match="empty"):
        read(path, 0, 10)


def test_a_file_without_samples_is_named(tmp_path):
    assert "zero-length" in error_of(write(tmp_path / "nothing.wav", np.zeros(0, np.float32)))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "aiff", "raw"])
def test_random_bytes_are_named(tmp_path, ending):
    path = tmp_path / f"random.{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "not readable" in error_of(path)


@pytest.mark.parametrize(
    "ending,subtype", [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("aiff", "PCM_16")]
)
def test_a_truncated_file_is_named(tmp_path, ending, subtype):
    path = write(tmp_path / f"cut.{ending}", noise(), subtype=subtype)
    probe(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    text = error_of(path)
    assert "truncated" in text or "cannot decode" in text


def test_a_wav_whose_writer_did_not_know_its_length_is_whole(tmp_path):
    path = write(tmp_path / "piped.wav", noise(2000))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert probe(path).frames == 2000


def test_a_wav_with_a_chunk_after_its_samples_is_whole(tmp_path):
    path = write(tmp_path / "guano.wav", noise(2000))
    text = b"GUANO|Version: 1.0\n"
    path.write_bytes(path.read_bytes() + b"guan" + (len(text) + 1).to_bytes(4, "little") + text + b"\0")
    assert probe(path).frames == 2000 and read(path, 1990, 20)[9] != 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_named(tmp_path, bad):
    wave = noise()
    wave[15000] = bad
    path = write(tmp_path / "nan.wav", wave, subtype="FLOAT")
    assert "NaN" in error_of(path)
    assert np.isfinite(read(path, 0, 15000)).all()


def test_only_names_of_sound_files_are_taken_for_recordings():
    taken = ["a.wav", "a.WAV", "a.flac", "a.ogg", "a.mp3", "a.aif", "x.y.w64"]
    refused = ["a.txt", "a.csv", ".a.wav", "wav", "a.raw", "a.wav.part", "a.png"]
    assert [name for name in taken + refused if is_audio(Path(name))] == taken


@pytest.mark.parametrize("source,target", [(8000, 16000), (44100, 16000), (384000, 48000), (32000, 44100)])
def test_a_resampled_stretch_equals_that_stretch_of_the_whole_file_resampled(tmp_path, source, target):
    path = write(tmp_path / "a.wav", noise(source // 2), source)
    pcm = soundfile.read(path, dtype="int16")[0].astype(np.float64)
    count, step = 1000, source // gcd(source, target)
    silence = 40 * step  # soxr treats the first samples of a file differently; around ours there is silence
    whole = soxr.resample(np.pad(pcm, (silence, source)), source, target, quality="HQ")
    for start in (0, 3 * step, (len(pcm) // 2 // step) * step, len(pcm) // step * step - step):
        at = (silence + start) * target // source
        part = read_resampled(path, source, start, count, target)
        assert part.dtype == np.int16 and len(part) == count
        expected = np.clip(np.rint(whole[at : at + count]), -32768, 32767)
        assert np.abs(part - expected).max() <= 1
        assert np.abs(part.astype(float) - expected).mean() < 0.05


def test_resampling_float_files_keeps_float_and_agrees_with_the_whole_file(tmp_path):
    path = write(tmp_path / "a.wav", noise(44100), 44100, "PCM_24")
    whole = soxr.resample(soundfile.read(path, dtype="float64")[0], 44100, 16000, quality="HQ")
    part = read_resampled(path, 44100, 441 * 20, 2000, 16000)
    assert part.dtype == np.float32
    np.testing.assert_allclose(part, whole[3200:5200], atol=3e-6)


def test_a_resampled_stretch_over_the_edges_of_the_file_is_padded_with_silence(tmp_path):
    path = write(tmp_path / "a.wav", noise(8000), 8000)
    part = read_resampled(path, 8000, -1000, 20000, 16000)
    assert len(part) == 20000
    assert np.abs(part[:1700]).max() <= 40 and np.abs(part[18300:]).max() <= 40
    np.testing.assert_allclose(part[2600:17400], read_resampled(path, 8000, 300, 14800, 16000), atol=1)


@pytest.mark.parametrize(
    "source,target,hz", [(8000, 16000, 3000), (44100, 16000, 6000), (384000, 48000, 20000), (32000, 44100, 12000)]
)
def test_a_pure_tone_keeps_frequency_and_amplitude(tmp_path, source, target, hz):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(source // 2) / source)
    path = write(tmp_path / "tone.wav", wave, source)
    start = source // 16  # not a multiple of the rates' common unit everywhere: positions are in source samples
    out = to_float(read_resampled(path, source, start, 4096, target)).astype(np.float64)
    t = start / source + np.arange(4096) / target
    sine, cosine = np.sin(2 * np.pi * hz * t), np.cos(2 * np.pi * hz * t)
    (a, b), *_ = np.linalg.lstsq(np.stack([sine, cosine], 1), out, rcond=None)
    assert np.hypot(a, b) == pytest.approx(0.5, rel=0.002)
    assert abs(np.arctan2(b, a)) < 0.01
    assert np.sqrt(np.mean((out - a * sine - b * cosine) ** 2)) < 1e-4


@pytest.mark.parametrize("source,target,hz", [(44100, 16000, 10000), (384000, 48000, 60000), (44100, 32000, 19000)])
def test_a_tone_above_the_new_nyquist_is_rejected_by_80_db(tmp_path, source, target, hz):
    wave = 0.9 * np.sin(2 * np.pi * hz * np.arange(source // 2) / source)
    path = write(tmp_path / "tone.wav", wave, source, "FLOAT")
    out = read_resampled(path, source, source // 8, 4096, target).astype(np.float64)
    rejection_db = 20 * np.log10((0.9 / np.sqrt(2)) / np.sqrt(np.mean(out**2)))
    assert rejection_db > 80


def test_int16_becomes_float_between_minus_one_and_one():
    out = to_float(np.array([-32768, 0, 16384, 32767], np.int16))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, np.array([-1, 0, 0.5, 32767 / 32768], np.float32))
