"""A finished model in Python: embed, classify, detect."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soxr
from jaxtyping import Float

from audiorep.apply.detect import Detector, Reporting, reporting_by, thresholds_beside
from audiorep.apply.embed import Embedder, open_embedder, windows_in
from audiorep.apply.scores import Scorer, open_scorer
from audiorep.build import device_of
from audiorep.errors import AudiorepError
from audiorep.evaluate.calibrate import probabilities
from audiorep.evaluate.results import read_thresholds


def load(model: str | Path, accelerator: str = "auto") -> "Loaded":
    """Open a run folder or a bundle: ``audiorep.load("my_classifier").detect("night.wav")``.

    Args:
        accelerator: auto, cpu, gpu or mps.

    Raises:
        AudiorepError: no model there.
    """
    return Loaded(Path(model).expanduser(), accelerator)


class Loaded:
    """A model that was opened with `load`; what it does not have (a classifier) is missed when it is asked for."""

    def __init__(self, path: Path, accelerator: str) -> None:
        self._path, self._device = path, device_of(accelerator)
        self._embedder: Embedder = open_embedder(path, self._device)

    @cached_property
    def _scorer(self) -> Scorer:
        return open_scorer(self._path, self._device)

    @cached_property
    def _thresholds(self) -> dict[str, Any] | None:
        path = thresholds_beside(self._path)
        return read_thresholds(path) if path.exists() else None

    @cached_property
    def _own(self) -> Reporting:
        return self._reporting(None)

    def _reporting(self, threshold: float | None) -> Reporting:
        return reporting_by(self._path, self.classes, self._thresholds, threshold)

    @property
    def sample_rate_hz(self) -> int:
        """The rate that waves are resampled to."""
        return self._embedder.sample_rate_hz

    @property
    def window_s(self) -> float:
        """Length of the windows that are embedded, in s."""
        return self._embedder.window_samples / self._embedder.sample_rate_hz

    @property
    def classes(self) -> list[str]:
        """What it can name. Raises AudiorepError where it has no classifier."""
        return list(self._scorer.classes)

    def embed(self, wave: np.ndarray, sample_rate_hz: int) -> Float[np.ndarray, "n d"]:
        """Embeddings of windows side by side, the last one padded with silence.

        Args:
            wave: samples [t] in [-1, 1].
        """
        samples = self._heard(wave, sample_rate_hz)
        length = self._embedder.window_samples
        return np.concatenate([self._embedder.run(waves) for _, waves in windows_in(samples, length, length, 64)])

    def classify(self, wave: np.ndarray, sample_rate_hz: int) -> pd.DataFrame:
        """Calibrated probabilities: a row a window (half a window apart) or moment, with start_s, end_s and a column a class.

        Raises:
            AudiorepError: it has no classifier.
        """
        scorer, samples = self._scorer, self._heard(wave, sample_rate_hz)
        logits = np.concatenate(list(scorer.logits_in(samples)))
        temperature = 1.0 if self._thresholds is None else float(self._thresholds["temperature"])
        spans = np.array([scorer.span(step, step) for step in range(len(logits))]) / scorer.rate_hz
        table = pd.DataFrame(probabilities(logits, temperature, scorer.multilabel), columns=list(scorer.classes))
        table.insert(0, "start_s", spans[:, 0])
        table.insert(1, "end_s", np.minimum(spans[:, 1], len(samples) / scorer.rate_hz))
        return table

    def detect(self, path: str | Path, threshold: float | None = None) -> pd.DataFrame:
        """The calls in a recording: path, start_s, end_s, label, score; as `audiorep detect` leaves them.

        Classes called noise, background, silence or other are not reported.

        Args:
            threshold: of all classes; None: those that the model was given when it was trained. Classes without one are
                not reported, and a warning names them.

        Raises:
            AudiorepError: no classifier, or no class with a threshold and no `threshold`. AudioError: not a recording.
        """
        reporting = self._own if threshold is None else self._reporting(threshold)
        tables = Detector(self._scorer, reporting)(Path(path))
        return pd.concat([table.to_pandas() for table in tables], ignore_index=True)

    def _heard(self, wave: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        wave = np.asarray(wave, np.float32)
        if wave.ndim != 1 or not len(wave) or sample_rate_hz < 1:
            raise AudiorepError(
                f"samples of one channel [t] are needed, and their rate in Hz, not an array {wave.shape} at {sample_rate_hz}"
            )
        return soxr.resample(wave, sample_rate_hz, self.sample_rate_hz, quality="HQ")
