"""A classifier along a recording: logits at every step, chunk by chunk, whatever the recording's length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from audiorep.apply.embed import Embedder, count_of, windows_in, windows_of
from audiorep.data.audio import probe
from audiorep.errors import AudiorepError
from audiorep.model import Model, ModelInfo, load_model
from audiorep.onnx_facts import beside
from audiorep.running import ahead, runner

MARGIN = 0.2
"""Part of a window, at each of its ends, of which frames are not used where a neighbour knows more of them."""


@dataclass(frozen=True)
class Scorer:
    """Waves [b t] at `rate_hz` to logits [b n c] of n steps; t is `window_samples`.

    step_samples: from one step to the next, the first being centred on the first sample; None: the window is one step.
    hop_samples: from one window to the next, where a window is one step.
    again: how another process, which gets it by pickle, opens it anew.
    """

    run: Callable[[np.ndarray], Float[np.ndarray, "b n c"]]
    rate_hz: int
    window_samples: int
    classes: Sequence[str]
    multilabel: bool
    step_samples: int | None
    hop_samples: int
    again: "Callable[[], Scorer] | None" = None

    def __reduce__(self) -> "tuple[Callable[[], Scorer], tuple[()]]":
        if self.again is None:
            raise AudiorepError("this classifier was not opened from a file: it cannot go to another process")
        return self.again, ()

    def logits(self, path: Path, batch_size: int = 64) -> Iterator[np.ndarray]:
        """Logits [n c] of all steps of a recording in order of time, some at a time.

        Raises:
            AudioError: the recording cannot be decoded.
        """
        info, heard = probe(path), Embedder(self.run, self.rate_hz, self.window_samples)
        total = info.frames * self.rate_hz // info.rate_hz
        yield from self.along(total, lambda hop: ahead(windows_of(path, heard, hop, batch_size)))

    def logits_in(self, wave: np.ndarray, batch_size: int = 64) -> Iterator[np.ndarray]:
        """The same of samples [t] in memory, at `rate_hz`."""
        yield from self.along(len(wave), lambda hop: windows_in(wave, self.window_samples, hop, batch_size))

    def along(
        self, total: int, windows: Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
    ) -> Iterator[np.ndarray]:
        """Logits of `total` samples, from the windows that `windows` cuts at a hop. Frames near the ends of a window are
        taken from its neighbours, which know what surrounds them."""
        if self.step_samples is None:
            for _, waves in windows(self.hop_samples):
                yield self.run(waves)[:, 0]
            return
        steps, of_window = -(-total // self.step_samples), self.window_samples // self.step_samples
        margin = int(MARGIN * of_window)
        hop = (of_window - 2 * margin) * self.step_samples
        last = count_of(total, self.window_samples, hop) - 1
        number = given = 0
        for _, waves in windows(hop):
            kept = []
            for said in self.run(waves)[:, :of_window]:
                kept.append(said[margin if number else 0 : of_window if number == last else of_window - margin])
                number += 1
            chunk = np.concatenate(kept)[: steps - given]
            given += len(chunk)
            yield chunk

    def span(self, first: int, last: int) -> tuple[int, int]:
        """First sample and the one after the last of a call from step `first` to step `last`."""
        if self.step_samples is None:
            return first * self.hop_samples, last * self.hop_samples + self.window_samples
        return max(0, (2 * first - 1) * self.step_samples // 2), (2 * last + 1) * self.step_samples // 2

    def steps(self, seconds: float) -> int:
        """The nearest number of steps."""
        return round(seconds * self.rate_hz / (self.step_samples or self.hop_samples))


def open_scorer(
    folder: Path,
    device: torch.device | str = "cpu",
    hop_s: float | None = None,
    key: str = "model",
    precision: str = "32-true",
) -> Scorer:
    """A classifier in a run folder or bundle, or an `.onnx` that names calls.

    Args:
        hop_s: from one window to the next, where windows are named as a whole; None: half a window.
        precision: see `runner`.

    Raises:
        AudiorepError: no model, or one that names nothing.
    """
    model, info, _ = load_model(folder, key)
    if not info.classes:
        told = f" transfer=frozen views=wave, or say in {beside(folder).name} which output answers and what its classes are"
        raise AudiorepError(
            f"{key}={folder}: this model has no classifier: train one on its encoder with audiorep train init={folder}"
            + (told if folder.is_file() else "")
        )
    again = partial(open_scorer, folder.absolute(), device, hop_s, precision=precision)
    return replace(scorer_of(model, info, device, hop_s, precision), again=again)


def scorer_of(
    model: Model,
    info: ModelInfo,
    device: torch.device | str = "cpu",
    hop_s: float | None = None,
    precision: str = "32-true",
) -> Scorer:
    """A classifier in memory; see `open_scorer`."""
    say = runner(model, device, precision)

    def run(waves: np.ndarray) -> np.ndarray:
        logits = say(waves)[1]
        return logits if model.framewise else logits[:, None]

    window = max(info.window_samples, model.frontend.shortest)
    hop = window // 2 if hop_s is None else round(hop_s * info.sample_rate_hz)
    if not hop >= 1:
        raise AudiorepError(f"hop_s={hop_s} is shorter than a sample")
    several = model.framewise or bool(info.training.get("multilabel"))
    step = model.step_samples if model.framewise else None
    return Scorer(run, info.sample_rate_hz, window, tuple(info.classes), several, step, hop)
