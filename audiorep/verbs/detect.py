"""audiorep detect: the calls in any recordings, by a call classifier or a detector."""

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from audiorep.apply.bulk import JOURNAL, PARTS, process
from audiorep.apply.detect import Detector, Reporting, reporting_by, thresholds_beside, without_threshold
from audiorep.apply.evidence import evidence_of
from audiorep.apply.parts import Engine
from audiorep.apply.recordings import QUARANTINE, Recordings, recordings_in, tell_left_out
from audiorep.apply.scores import Scorer, open_scorer
from audiorep.apply.summary import PAGE, summarise
from audiorep.apply.summary_input import DETECTIONS, FACTS, RECORDINGS
from audiorep.build import device_of, plain_errors
from audiorep.console import progress_bar
from audiorep.data.audio import probe
from audiorep.data.formats.writers import FILES, ROOTED, WRITERS
from audiorep.data.manifest import write_manifest
from audiorep.data.recordings import where_and_when
from audiorep.errors import AudioError, AudiorepError
from audiorep.evaluate.results import read_thresholds
from audiorep.files import fingerprint, output_folder, remove, write_json
from audiorep.rehearsal import Estimate, memory_bytes, show, spread
from audiorep.running import PRECISIONS

log = logging.getLogger(__name__)

OVERRULED = ("low", "gap_s", "shortest_s", "exclusive")
"""Settings of `Reporting` that overrule the model's own where they are not null."""


def detect(cfg: DictConfig) -> int:
    """Leaves ``out/detections.parquet``: path, start_s, end_s, label, score; ``recordings.csv``: what was listened to; and
    what `to` and `summary` ask for. Returns 3 where recordings are left out, else 0."""
    formats = formats_of(cfg.to)
    recordings = recordings_in(cfg.recordings)
    with plain_errors():
        engine: Engine = instantiate(cfg.engine)
    scorer = open_scorer(Path(cfg.model), device_of(cfg.accelerator), cfg.hop_s, precision=cfg.precision)
    detector = Detector(scorer, reporting(cfg, scorer), cfg.batch_size)
    out = output_folder(cfg.out, resume=cfg.resume, overwrite=cfg.overwrite)
    if cfg.overwrite and not cfg.resume:
        remove(out, (JOURNAL, PARTS, DETECTIONS, RECORDINGS, QUARANTINE, FACTS))
    settings = {
        "model": fingerprint(Path(cfg.model)),
        "sample_rate_hz": scorer.rate_hz,
        "window_samples": scorer.window_samples,
        "hop_samples": scorer.hop_samples if scorer.step_samples is None else scorer.step_samples,
        **({} if cfg.precision == PRECISIONS[0] else {"precision": cfg.precision}),
        **asdict(detector.reporting),
    }
    if cfg.dry_run:
        show(rehearse(recordings, scorer, cfg.batch_size, Path(str(cfg.dry_run))))
        return 0
    with progress_bar("detecting") as progress:
        failed = process(recordings.paths, detector, out, settings, DETECTIONS, engine, progress)
    status = tell_left_out(recordings, failed, out)
    found = pd.read_parquet(out / DETECTIONS)
    listened = listened_to(recordings, failed)
    write_manifest(listened, out / RECORDINGS)
    for name in formats:
        write_as(name, found, out, Path(str(cfg.recordings)).expanduser().resolve())
    done = len(recordings.paths) - len(failed)
    facts = {
        **settings, "model": str(cfg.model), "recordings": str(cfg.recordings), "done": done, "left_out": len(failed),
        "quarantined": len(recordings.quarantined), "detections": len(found), **told_of(cfg, detector),
    }  # fmt: skip
    write_json(out / FACTS, facts)
    if cfg.summary:
        place = output_folder(out / "summary", overwrite=True)
        summarise(found, listened, place, evidence_of(None, facts, out))
        log.info("wrote %s", place / PAGE)
    counts = found["label"].value_counts()
    log.info(
        "wrote %s: %d detection(s) in %d recording(s)%s", out / DETECTIONS, len(found), done,
        "".join(f", {name}: {count}" for name, count in counts.head(8).items()),
    )  # fmt: skip
    return status


def told_of(cfg: DictConfig, detector: Detector) -> dict[str, Any]:
    """What a summary must know of the detector: see `audiorep.apply.evidence.evidence_of`.

    window_s: length of the windows that it names; None: it names moments. without_threshold: classes that are not reported
    for want of one. calibration: the content of the ``thresholds.json`` that was used; None: `threshold` was.
    """
    scorer = detector.scorer
    return {
        "window_s": scorer.window_samples / scorer.rate_hz if scorer.step_samples is None else None,
        "without_threshold": without_threshold(scorer.classes, detector.reporting, list(cfg.leave_out)),
        "calibration": read_thresholds(thresholds_of(cfg)) if cfg.threshold is None else None,
    }


def formats_of(to: str | ListConfig | None) -> list[str]:
    """The formats that are asked for besides the table.

    Raises:
        AudiorepError: one that is not written.
    """
    names = [] if to is None else [to] if isinstance(to, str) else [str(name) for name in to]
    if unknown := [name for name in names if name not in WRITERS]:
        raise AudiorepError(f"to={unknown[0]}: there are {', '.join(WRITERS)}")
    return names


def reporting(cfg: DictConfig, scorer: Scorer) -> Reporting:
    """When a call is reported: by the model's thresholds, `thresholds=` or `threshold=`, and what overrules them.

    Raises:
        AudiorepError: there are no thresholds, a class that the model does not know, or none is left to report.
    """
    told = read_thresholds(thresholds_of(cfg)) if has_thresholds(cfg) else None
    base = reporting_by(Path(cfg.model), scorer.classes, told, cfg.threshold, list(cfg.leave_out))
    overruled: dict[str, Any] = {name: cfg[name] for name in OVERRULED if cfg[name] is not None}
    return replace(base, **overruled)


def thresholds_of(cfg: DictConfig) -> Path:
    """Those that are asked for, or the model's own."""
    return thresholds_beside(Path(cfg.model)) if cfg.thresholds is None else Path(str(cfg.thresholds)).expanduser()


def has_thresholds(cfg: DictConfig) -> bool:
    """Whether thresholds are asked for, or the model has some."""
    return cfg.thresholds is not None or thresholds_of(cfg).exists()


def listened_to(recordings: Recordings, failed: Sequence[tuple[Path, str]]) -> pd.DataFrame:
    """A row for each recording: when and where it was made, and whether it could be heard to the end."""
    with progress_bar("reading who recorded when and where") as progress:
        frame = where_and_when(recordings.paths, progress=progress)
    lost = {str(path) for path, _ in failed}
    return frame.assign(status=["failed" if path in lost else "done" for path in frame["path"]])


def write_as(name: str, found: pd.DataFrame, out: Path, source: Path) -> None:
    """Write the detections in a format, into ``out/NAME``, or as the file ``out/NAME.ENDING``."""
    place = out / (f"{name}{FILES[name][0]}" if name in FILES else name)
    root = {"root": source if source.is_dir() else source.parent} if name in ROOTED else {}
    if name not in FILES:
        place.mkdir(exist_ok=True)
    written = WRITERS[name](found, place, **root)
    log.info("wrote %s", place if name in FILES else f"{len(written)} file(s) into {place}")


def rehearse(recordings: Recordings, scorer: Scorer, batch_size: int, out: Path) -> Estimate:
    """Listen to a little, and tell what all recordings take."""
    total_s, ready = 0.0, list[Path]()
    with progress_bar("reading headers") as progress:
        for number, path in enumerate(recordings.paths, 1):
            try:
                total_s += probe(path).duration_s
                ready.append(path)
            except AudioError as error:
                log.warning("would be left out: %s", error)
            progress(number, len(recordings.paths))
    if not ready:
        raise AudiorepError(f"none of {len(recordings.paths)} recording(s) can be read")
    heard_s, took = 0.0, 0.0
    for path in spread(ready, 4):
        began, steps = time.monotonic(), 0
        for chunk in itertools.islice(scorer.logits(path, batch_size), 2):
            steps += len(chunk)
        took += time.monotonic() - began
        heard_s += min(steps * (scorer.step_samples or scorer.hop_samples) / scorer.rate_hz, probe(path).duration_s)
    hours = total_s / 3600.0
    return Estimate({f"{hours:.3g} hours in {len(ready)} recordings": total_s * took / heard_s}, memory_bytes(), 0, out)
