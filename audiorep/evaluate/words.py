"""How the report says a name or a number: protocols, measures, curves, shares, frequencies."""

import math

PROTOCOLS = {
    "knn": "kNN",
    "linear": "linear probe",
    "attentive": "attentive probe",
    "prototypical": "prototypical probe",
    "fewshot": "few-shot",
}
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "cmap": "cmAP",
    "auroc": "AUROC",
}
"""Measures between 0 and 1 of which more is better; of any other the report does not say which is best."""

HEALTH = {"rankme": "RankMe", "embedding_std": "embedding std"}
CURVES = {
    "loss": "Loss",
    "rankme": "RankMe",
    "std": "Spread (std)",
    "mean_cosine": "Mean cosine",
    "uniformity": "Uniformity",
    "marginal_entropy": "Marginal entropy",
    "conditional_entropy": "Conditional entropy",
    "teacher_entropy": "Teacher entropy",
    "lr": "Learning rate",
}
"""The curves drawn first, in this order; others follow while there is room."""


def sentence_case(text: str) -> str:
    """The first letter raised, except in a name that has its own case ("kNN", "cmAP")."""
    own_case = any(letter.isupper() for letter in text.partition(" ")[0][1:])
    return text if own_case else text[:1].upper() + text[1:]


def number(value: float | int) -> str:
    """Four significant digits, thousands set apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def share(value: float) -> str:
    """A number between 0 and 1 with three decimals: ".961"; "" where it is not finite."""
    return f"{value:.3f}".removeprefix("0") if math.isfinite(value) else ""


def frequency(hz: float) -> str:
    """Hz below 1 kHz, kHz from there on: "50 Hz", "8 kHz"."""
    return f"{hz / 1000:.3g} kHz" if hz >= 1000 else f"{hz:.0f} Hz"


def duration(seconds: float) -> str:
    """Seconds with their unit: "1.5 s"."""
    return f"{number(seconds)} s"


def metric_name(key: str) -> str:
    """The words for a metric: "linear@5/macro_f1" is "linear probe (5 per class) macro F1"."""
    *protocols, measure = key.split("/")
    words = []
    for protocol in protocols:
        name, _, labels = protocol.partition("@")
        words.append(PROTOCOLS.get(name, name.replace("_", " ")))
        if labels:
            words.append(f"({labels} per class)" if labels.isdigit() else f"({labels})")
    return " ".join([*words, (SCORES | HEALTH).get(measure, measure.replace("_", " "))])


def curve_name(column: str) -> str:
    """The words for a logged quantity: "backbone/rankme" is "RankMe, backbone"."""
    where, _, quantity = column.rpartition("/")
    name = CURVES.get(quantity, sentence_case(quantity.replace("_per_s", " per second").replace("_", " ")))
    return f"{name}, {where.replace('/', ' ')}" if where else name


def is_rated(key: str) -> bool:
    """Whether the metric lies between 0 and 1 and more of it is better."""
    return key.rpartition("/")[2] in SCORES
