"""What the page's *Export* writes: all clips as a manifest, or what is settled as Raven tables or Audacity tracks."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from audiorep.data.manifest import write_manifest
from audiorep.label.clips import get_clips
from audiorep.label.desk import Desk
from audiorep.label.exchange import settled_table, write_audacity, write_raven


def export_manifest(desk: Desk, folder: Path, out: Path) -> dict[str, Any]:
    """All clips, with all that the corpus says of them: what is settled with its label, the others without, for training
    that uses both."""
    table = settled_table(desk.store, folder, several=desk.settings.several)
    named, known = set(table["clip"]), get_clips(desk.store)
    rest = [known[clip.id] for clip in desk.told.clips if clip.id not in named]
    paths = [str(folder / clip.path) for clip in rest]
    groups = [path if clip.group == clip.path else clip.group for clip, path in zip(rest, paths, strict=True)]
    columns = {
        "path": paths, "start_s": [clip.start_s for clip in rest], "end_s": [clip.end_s for clip in rest],
        "label": "", "group": groups, "channel": pd.array([clip.channel or None for clip in rest], "Int64"),
        "rate_hz": [clip.rate_hz for clip in rest], "clip": [clip.id for clip in rest],
    }  # fmt: skip
    whole = pd.concat([one for one in (table, pd.DataFrame(columns)) if len(one)], ignore_index=True)
    if (about := desk.told.about) is not None:
        said = about.assign(clip=[clip.id for clip in desk.told.clips])
        whole = whole.merge(said.drop(columns=[name for name in about if name in whole]), how="left", on="clip")
    write_manifest(whole, out / "labels.csv")
    return {"written": ["labels.csv"], "rows": len(whole), "answered": len(table)}


def export_tables(write: Callable[..., list[Path]], name: str, desk: Desk, folder: Path, out: Path) -> dict[str, Any]:
    """What is settled, each label by itself, in another program's tables below `out/name`."""
    table = settled_table(desk.store, folder, several=desk.settings.several, each=True)
    written = write(table, out / name, folder)
    return {"written": [str(path.relative_to(out)) for path in written], "rows": len(table), "answered": len(table)}


EXPORTS: Mapping[str, Callable[[Desk, Path, Path], dict[str, Any]]] = {
    "manifest": export_manifest,
    "raven": partial(export_tables, write_raven, "raven"),
    "audacity": partial(export_tables, write_audacity, "audacity"),
}
