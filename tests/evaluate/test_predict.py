"""What a classifier says of rows equals asking the model by hand; windows are pooled by row; what is corrupt is NaN."""

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
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import mel_statistics
from audiorep.evaluate.predict import predict
from audiorep.frontend import Mel
from audiorep.model import Model
from audiorep.pooling import largest, mean

SECONDS = [0.25, 0.8, 0.2, 0.55, 0.25]


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    frontend, compress = Mel(RATE_HZ, bands=16), Compress()
    compress.fit(frontend(torch.from_numpy(np.stack([tone(k, 0) for k in range(4)]))))
    return Model(frontend, compress, SmallCnn(4, 8), torch.nn.Linear(8, 3)).eval()


@pytest.fixture
def windows(tmp_path) -> Windows:
    paths = [tmp_path / f"{i}.wav" for i in range(len(SECONDS))]
    for i, (path, duration) in enumerate(zip(paths, SECONDS, strict=True)):
        soundfile.write(path, tone(i % 4, i, duration), RATE_HZ, subtype="PCM_16")
    frame = pd.DataFrame({"path": map(str, paths), "start_s": 0.0, "end_s": np.nan, "label": "", "group": "g"})
    return Windows(scan(frame), WindowSpec(0.25), RATE_HZ)


@pytest.mark.parametrize("pooling", [mean, largest])
@pytest.mark.parametrize("batch_size", [2, 100])
def test_it_equals_asking_the_model_window_by_window(pooling, batch_size, model, windows):
    seen = []
    said = predict(model, windows, pooling, batch_size, progress=lambda done, total: seen.append((done, total)))
    per_row = [1, 3, 1, 2, 1]
    for row, count in enumerate(per_row):
        shown = [windows[(row, k, count, -1)] for k in range(count)]
        wave = torch.stack([item["wave"] for item in shown]).float() / 32768.0
        with torch.inference_mode():
            embedding, logits = model(wave)
            spec = model.spectrogram(wave)
            mel = mel_statistics(spec, torch.stack([item["valid"] for item in shown]), model.frontend.hop_length)
        wanted = logits.amax(0) if pooling is largest else logits.mean(0)
        np.testing.assert_allclose(said.logits[row], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(said.embedding[row], embedding.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(said.mel[row], mel.mean(0), rtol=1e-4, atol=1e-4)
    assert said.known.all() and not said.failed and seen[-1][0] == seen[-1][1] == len(seen)


def test_a_corrupt_file_leaves_nan_and_is_named_and_the_others_are_as_they_were(model, windows, tmp_path):
    before = predict(model, windows)
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    windows.cache.clear()
    after = predict(model, windows, batch_size=2)
    assert after.known.tolist() == [True, False, True, True, True]
    for name in ("logits", "embedding", "mel"):
        a, b = getattr(before, name), getattr(after, name)
        assert np.isnan(b[1]).all() and not np.isnan(b[after.known]).any()
        np.testing.assert_allclose(b[after.known], a[after.known], rtol=1e-4, atol=1e-5)
    assert {row for row, _ in after.failed} == {1} and "1.wav" in after.failed[0][1]


def test_a_corpus_of_which_nothing_can_be_decoded_is_refused(model, windows, tmp_path):
    for path in tmp_path.glob("*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(AudiorepError, match=r"not one of 5 rows could be decoded: .*0\.wav"):
        predict(model, windows)


def test_without_a_classifier_the_logits_are_the_embeddings(model, windows):
    model.classifier = None
    said = predict(model, windows)
    np.testing.assert_array_equal(said.logits, said.embedding)
