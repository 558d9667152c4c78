"""All formats that are written, by name: each takes rows of a manifest and a place, and returns the files it wrote.

Every row that is handed over is written: hand over those that are annotations.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from audiorep.data.formats import (
    animal_spot,
    audacity,
    audio_folder,
    birdnet,
    birdnet_folders,
    esc50,
    generic_seq,
    hoplite_write,
    raven,
    simple_seq,
)
from audiorep.data.manifest import write_manifest

Writer = Callable[..., list[Path]]
"""``write(frame, out)``."""


def write_table(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write our own manifest, the file `out`, as CSV or Parquet by its ending."""
    write_manifest(frame, out)
    return [out]


WRITERS: Mapping[str, Writer] = {
    # out is a file
    "table": write_table,
    "raven_together": raven.write_together,
    "birdnet": birdnet.write_selections,
    "birdnet_combined": birdnet.write_combined,
    "generic_seq": generic_seq.write,
    # out is a folder with a file a recording; root=, the folder of the corpus, keeps recordings of one name apart
    "raven": raven.write,
    "audacity": audacity.write,
    "birdnet_labels": birdnet.write_labels,
    "simple_seq": simple_seq.write,
    # out is a folder with a sound file a row
    "animal_spot": animal_spot.write,
    "audio_folder": audio_folder.write,
    "birdnet_folders": birdnet_folders.write,
    "esc50": esc50.write,
    # out is a database
    "hoplite": hoplite_write.write,
}

FILES: Mapping[str, tuple[str, ...]] = {
    "table": (".csv", ".parquet"),
    "raven_together": (".txt",),
    "birdnet": (".txt",),
    "birdnet_combined": (".csv", ".parquet"),
    "generic_seq": (".csv",),
}
"""Those that write one file, and how it may end; all others take a folder."""

ROOTED = frozenset({"raven", "audacity", "birdnet_labels", "simple_seq"})
"""Those that take `root`."""
