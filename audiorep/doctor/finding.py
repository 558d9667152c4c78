"""What the corpus doctor finds, and what to do about it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. Errors make the row unusable, warnings are for a person to judge.

    at_s: where in the recording, in s, for the picture; None: the whole of it.
    """

    severity: Literal["error", "warning"]
    kind: str
    path: str
    detail: str
    at_s: float | None = None


REMEDIES = {
    "unusable": "The file or row is left out. Fix the path or the times, or copy the recording again.",
    "not decodable": "It breaks off or holds what is no sound. Copy it again; quarantine=true keeps it out of every run.",
    "leak between groups": "The same sound stands in two groups, and a split by group lets it leak: give them one group.",
    "duplicate recording": "Keep one. If both stay, give them one group, so that no split separates them.",
    "near duplicate": "The same sound in two files: keep one, or give them one group, so that no split separates them.",
    "recording in two splits": "Test rows of a recording whose other rows were trained on are no test: split by recording.",
    "label goes with a recorder": "A classifier can learn the recorder instead of the call: record each class with several.",
    "two labels for one sound": "Decide for one, or say labels.multilabel=true and join them by |.",
    "group in two splits": "If groups are individuals or sites, scores tell how known ones are recognised, not new ones.",
    "duplicate row": "Delete one of the two rows.",
    "single example": "Label more, or leave the class out.",
    "silent": "A dead microphone, or a muted channel. Leave the recording out, or choose another channel (window.channel).",
    "constant": "The recorder delivered one value and no sound. Leave the recording out.",
    "silent channel": "The mean of the channels halves the other one: window.channel=NUMBER chooses one.",
    "clipped": "The gain was too high; loud calls are distorted. Lower the gain in the field, and do not trust amplitudes.",
    "energy above the model": "The model does not hear most of it: train one with a higher frontend.sample_rate_hz.",
    "mixed sample rates": "What only some recordings can hold tells them apart: lower frontend.f_max_hz to what all have.",
    "mixed channel numbers": "Mixed down they differ in noise: window.channel=1 makes them alike.",
    "equal channels": "It is mono twice: nothing is lost by window.channel=1, and half the disk is gained.",
    "DC offset": "A high-pass filter removes it; with frontend.f_min_hz above 0 it does no harm.",
}
"""What to do, by kind; what does most harm comes first."""


def rank(finding: Finding) -> int:
    """The place of a finding among the others."""
    return list(REMEDIES).index(finding.kind)
