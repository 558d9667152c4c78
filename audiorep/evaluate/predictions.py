"""What every probe said of the test side, in a small file: two runs are compared sample by sample, not score by score."""

import io
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Float16

from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import Predictions
from audiorep.evaluate.protocol import Sides
from audiorep.files import write_bytes

NAME = "predictions.npz"
FACTS = ("row", "truth", "group", "classes")


def write_predictions(said: Mapping[str, np.ndarray], sides: Sides, path: Path) -> None:
    """Write class scores of the test side as plain arrays: `numpy.load` reads them without pickle.

    row [n]: numbers in the manifest. truth [n], class numbers, or [n c] with NaN. group [n], classes [c]: names. And for
    each protocol of the encoder ("knn", "linear@5" ...) and of a yardstick ("mel/knn" ...) float16 scores [n c], or
    [m n c] where labels were drawn m times.
    """
    facts = {
        "row": sides.test,
        "truth": sides.truth[sides.test],
        "group": sides.group[sides.test].astype(str),
        "classes": np.array(sides.classes, dtype=str),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **facts, **{name: in_half(score) for name, score in said.items()})  # type: ignore[arg-type]
    write_bytes(path, content.getbuffer())


def read_predictions(path: Path) -> dict[str, list[Predictions]]:
    """{"knn": [one], "linear@5": [one a draw], ..., "mel/knn": ...} of a file that `write_predictions` wrote.

    Raises:
        AudiorepError: no such file, or a damaged one.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
            truth, group = held["truth"], held["group"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise AudiorepError(f"cannot read {path}: {error}; evaluation.predictions=true writes it") from error
    return {
        name: [Predictions(truth, draw.astype(float), group) for draw in score.reshape(-1, *score.shape[-2:])]
        for name, score in held.items()
        if name not in FACTS
    }


def in_half(scores: Float[np.ndarray, "*m n c"]) -> Float16[np.ndarray, "*m n c"]:
    """Scores as float16, whose likeliest class is the same: where rounding makes it a tie, it gets the next number up."""
    half, likeliest = scores.astype(np.float16), scores.argmax(-1)[..., None]
    highest = np.take_along_axis(half, likeliest, -1)
    tied = half.argmax(-1)[..., None] != likeliest
    np.put_along_axis(half, likeliest, np.where(tied, np.nextafter(highest, np.float16(np.inf)), highest), -1)
    return half
