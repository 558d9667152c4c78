"""What is wrong between recordings: rates, channels, doubles, splits, labels and what goes along with them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.manifest import Manifest
from audiorep.doctor.finding import Finding
from audiorep.doctor.fingerprint import matches
from audiorep.doctor.recording import Heard
from audiorep.evaluate.confounding import contingency, cramers_v

SPLITS = ("split", "fold", "official_split", "subset")
RECORDERS = ("recorder", "device", "microphone", "site", "location", "station", "deployment", "codec", "rate_hz")
"""Columns that a label should not go along with; the last two are looked up in the files."""

FEWEST_RECORDINGS = 3
"""A label or a recorder with fewer recordings says nothing about what goes with what."""

CONFOUNDED = 0.7
"""Cramer's V from which on a label goes with a recorder."""

OVERLAP = 0.5
"""Two rows share a sound where they share this part of both together."""


def check_formats(manifest: Manifest) -> Iterator[Finding]:
    """Sample rates and numbers of channels that are not the usual ones."""
    for kind, values in (
        ("mixed sample rates", {path: info.rate_hz for path, info in manifest.files.items()}),
        ("mixed channel numbers", {path: info.channels for path, info in manifest.files.items()}),
    ):
        counts = Counter(values.values())
        usual = counts.most_common(1)[0][0]
        for value, count in sorted(counts.items()):
            if value != usual:
                example = next(path for path, own in values.items() if own == value)
                yield Finding("warning", kind, example, DETAILS[kind](count, value, usual))


DETAILS = {
    "mixed sample rates": lambda count, rate, usual: (
        f"{count} recording(s) at {rate} Hz, most are at {usual} Hz; above {min(rate, usual) / 2:g} Hz they differ"
    ),
    "mixed channel numbers": lambda count, channels, usual: (
        f"{count} recording(s) with {channels} channel(s), most have {usual}"
    ),
}


def check_doubles(paths: Sequence[str], heard: Sequence[Heard], group: dict[str, set[str]]) -> Iterator[Finding]:
    """The same samples, or the same sound, in two files."""
    same = defaultdict(list)
    for path, one in zip(paths, heard, strict=True):
        if one.digest:
            same[one.digest].append(path)
    kept = {path for doubles in same.values() for path in doubles[:1]}
    for doubles in same.values():
        for path in doubles[1:]:
            yield double(
                "duplicate recording", path, f"the same samples as {Path(doubles[0]).name}", doubles[0], group, None
            )
    rows = [i for i, path in enumerate(paths) if path in kept]
    for match in matches([(heard[i].words, heard[i].audible) for i in rows]):
        first, second = paths[rows[match.first]], paths[rows[match.second]]
        there = f"{Path(second).name} from {match.there_s:.1f} s on"
        detail = f"{match.seconds:.1f} s of it, from {match.at_s:.1f} s on, are also in {there}"
        yield double("near duplicate", first, detail, second, group, match.at_s)


def double(kind: str, path: str, detail: str, other: str, group: dict[str, set[str]], at_s: float | None) -> Finding:
    """A double; worse where the two stand in different groups, which a split may separate."""
    if group[path] != group[other] and {path} != group[path]:
        a, b = (", ".join(sorted(group[one])[:2]) for one in (path, other))
        return Finding("warning", "leak between groups", path, f"{detail}; their groups are {a} and {b}", at_s)
    return Finding("warning", kind, path, detail, at_s)


def check_splits(manifest: Manifest) -> Iterator[Finding]:
    """Recordings, and groups of recordings, on both sides of a split that the corpus brings."""
    frame = manifest.frame
    for column in SPLITS:
        if column not in frame or frame[column].astype(str).nunique() < 2:
            continue
        for path, values in frame.groupby("path")[column].unique().items():
            if len(values) > 1:
                yield Finding(
                    "warning", "recording in two splits", str(path), f"{column}: {', '.join(map(str, values[:4]))}"
                )
        shared = frame.groupby("group")[column].nunique()
        shared = shared[shared > 1]
        shared = shared[[name not in set(frame["path"]) for name in shared.index]]
        if len(shared):
            example = frame.loc[frame["group"] == shared.index[0], "path"].iloc[0]
            of = f"{len(shared)} of {frame['group'].nunique()} groups"
            detail = f"{of} stand in several values of '{column}', {shared.index[0]} for one"
            yield Finding("warning", "group in two splits", str(example), detail)


def check_labels(manifest: Manifest, multilabel: bool = False) -> Iterator[Finding]:
    """Classes with one example, rows that stand twice, and two labels for one sound."""
    frame = manifest.frame
    for label, count in frame.loc[frame["label"] != "", "label"].value_counts().items():
        if count == 1:
            path = frame.loc[frame["label"] == label, "path"].iloc[0]
            yield Finding("warning", "single example", path, f"class '{label}' has one example: it cannot be tested")
    for _, row in frame[frame.duplicated(["path", "start_s", "end_s", "label"])].iterrows():
        detail = f"{row['start_s']:g} to {row['end_s']:g} s stands twice"
        yield Finding("warning", "duplicate row", row["path"], detail, float(row["start_s"]))
    if not multilabel:
        yield from check_overlaps(frame[frame["label"] != ""])


def check_overlaps(frame: pd.DataFrame) -> Iterator[Finding]:
    """Recordings in which labelled rows with other labels share most of their time; the first such pair of each."""
    for path, part in frame.groupby("path", sort=False):
        part = part.sort_values("start_s")
        start, end = part["start_s"].to_numpy(float), part["end_s"].to_numpy(float)
        label = part["label"].tolist()
        found: list[tuple[int, int]] = []
        for i in range(len(part)):
            for j in range(i + 1, len(part)):
                if start[j] >= end[i]:
                    break
                shared = min(end[i], end[j]) - start[j]
                if label[i] != label[j] and shared > OVERLAP * (max(end[i], end[j]) - start[i]):
                    found.append((i, j))
        if found:
            i, j = found[0]
            detail = f"{len(found)} pair(s) of rows, such as '{label[i]}' and '{label[j]}' at {start[j]:.2f} s"
            yield Finding("warning", "two labels for one sound", str(path), detail, float(start[j]))


def check_confounding(manifest: Manifest) -> Iterator[Finding]:
    """Labels that go along with sample rate, codec, recorder or site, counted over recordings."""
    frame = manifest.frame[manifest.frame["label"] != ""]
    if frame.empty:
        return
    files = manifest.files
    told = frame.assign(
        codec=[Path(path).suffix.lower() for path in frame["path"]],
        rate_hz=[str(files[path].rate_hz) for path in frame["path"]],
    )
    for column in RECORDERS:
        if column not in told:
            continue
        once = told[["path", "label", column]].astype(str).drop_duplicates()
        for name in ("label", column):
            common = once[name].value_counts()
            once = once[once[name].isin(common.index[common >= FEWEST_RECORDINGS])]
        if once["label"].nunique() < 2 or once[column].nunique() < 2:
            continue
        label, value = (pd.factorize(once[name])[0] for name in ("label", column))
        v = cramers_v(contingency(label, value))
        if v >= CONFOUNDED:
            share = once.groupby("label")[column].agg(lambda values: values.value_counts(normalize=True).iloc[0])
            worst = str(share.idxmax())
            usual = once.loc[once["label"] == worst, column].value_counts().index[0]
            often = f"{100 * share.max():.0f} % of the recordings of '{worst}' have {usual}"
            detail = f"{column}: Cramer's V {v:.2f}; {often}"
            example = str(once.loc[once["label"] == worst, "path"].iloc[0])
            yield Finding("warning", "label goes with a recorder", example, detail)


def groups_of(manifest: Manifest) -> dict[str, set[str]]:
    """The groups that each recording belongs to."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, group in zip(manifest.frame["path"], manifest.frame["group"], strict=True):
        found[path].add(str(group))
    return found


def usual_rate(manifest: Manifest) -> int:
    """The lowest sample rate: what fingerprints may look at."""
    return int(np.min([info.rate_hz for info in manifest.files.values()]))
