"""Recognise the format: the first of a list that says "mine"."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from audiorep.data.formats.table import SEPARATORS, TABLES, header_of
from audiorep.data.manifest import PATH_NAMES, Format
from audiorep.errors import AudiorepError

NAMES = "Raven, Audacity, BirdNET, crowsetta, ANIMAL-SPOT, ESC-50, AudioFolder, hoplite"

log = logging.getLogger(__name__)


class Auto:
    """Asks each format in turn, and says which one it was."""

    def __init__(self, formats: Sequence[Format]) -> None:
        self.formats = formats

    def describe(self) -> str:
        return "automatic"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return any(format.recognises(recordings, annotations) for format in self.formats)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        for format in self.formats:
            if format.recognises(recordings, annotations):
                log.info("%s: read as %s", recordings, format.describe())
                table = format.read(recordings, annotations)
                if annotations is None and recordings.is_dir() and not any(table.get("label", [])):
                    hint_at_manifests(recordings)
                return table
        if annotations is not None:
            raise AudiorepError(f"{annotations}: no annotations in a format that we know; say format=, one of {NAMES}")
        raise AudiorepError(
            f"{recordings}: neither a manifest (.csv, .tsv, .parquet) nor a folder with recordings in it, nor one of "
            f"annotations in a format that we know: {NAMES}"
        )


def hint_at_manifests(folder: Path) -> None:
    """Say which tables in a folder that was read without labels are manifests."""
    tables = sorted(path for path in folder.glob("*") if path.suffix.lower() in TABLES)
    for path in tables:
        header = header_of(path, SEPARATORS.get(path.suffix.lower(), ","))
        if "label" in header and header & set(PATH_NAMES):
            log.warning("%s has labels: say recordings=%s (or corpus=) to use them", path, path)
