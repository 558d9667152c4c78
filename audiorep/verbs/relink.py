"""audiorep relink: recordings that were moved since they were labelled."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from audiorep.console import console
from audiorep.data.audio import probe
from audiorep.data.formats.folders import find_audio
from audiorep.errors import AudioError, AudiorepError
from audiorep.label.clips import Clip, get_clips
from audiorep.label.clips import relink as move
from audiorep.label.store import Store, open_store

log = logging.getLogger(__name__)


def relink(cfg: DictConfig) -> None:
    """Look for recordings that the store names and that are not there, by file name, rate and length; keep the new place."""
    path, recordings = Path(str(cfg.corpus)), Path(str(cfg.recordings))
    folder = (path if path.is_dir() else path.parent).resolve()
    if not path.exists():
        raise AudiorepError(f"corpus={path}: no such file or folder; if it was moved too, name its new place")
    if not recordings.is_dir():
        raise AudiorepError(f"recordings={recordings} is no folder")
    file = str(cfg.store).removeprefix("sqlite:///")
    if "://" not in file and not Path(file).expanduser().exists():  # it would be made
        raise AudiorepError(f"store={cfg.store}: no such file; a label store is out/labels.sqlite of audiorep label")
    store = open_store(str(cfg.store))
    try:
        report(store, folder, recordings.resolve(), bool(cfg.dry_run))
    finally:
        store.close()


def report(store: Store, folder: Path, recordings: Path, dry_run: bool) -> None:
    """Do it, and say what was done and what was not found."""
    missing: dict[str, list[Clip]] = {}
    for clip in get_clips(store).values():
        if not (folder / clip.path).is_file():
            missing.setdefault(clip.path, []).append(clip)
    by_name: dict[str, list[Path]] = {}
    for found in find_audio(recordings):
        by_name.setdefault(found.name, []).append(found)
    moved, lost = {}, []
    for path, clips in missing.items():
        fitting = [one for one in by_name.get(Path(path).name, []) if fits(one, clips)]
        if len(fitting) == 1:
            moved[path] = relative(fitting[0], folder)
        else:
            lost.append(f"{path}: {'not found' if not fitting else f'{len(fitting)} recordings of that name fit'}")
    if not dry_run:
        move(store, moved)
    for path, now in moved.items():
        log.info("%s -> %s", path, now)
    for line in lost:
        log.warning("%s", line)
    verb = "would be" if dry_run else "are"
    count = sum(len(missing[path]) for path in moved)
    console.print(f"{len(moved)} recording(s) {verb} linked again, with {count} clip(s); {len(lost)} not found")
    if moved and not dry_run:
        console.print("A page that is open goes on; before audiorep label starts anew, index the corpus anew")


def fits(path: Path, clips: list[Clip]) -> bool:
    """Whether a recording has the rate of the clips, and reaches as far as they do."""
    try:
        info = probe(path)
    except AudioError:
        return False
    return all(info.rate_hz == clip.rate_hz and info.frames >= clip.end for clip in clips)


def relative(path: Path, folder: Path) -> str:
    """As the store keeps paths."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
