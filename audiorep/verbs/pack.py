"""audiorep pack: a corpus decoded once, for fast reading."""

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.apply.bulk import JOURNAL, PARTS, part_of, process
from audiorep.apply.parts import Engine
from audiorep.apply.recordings import QUARANTINE, Recordings, tell_left_out
from audiorep.build import plain_errors
from audiorep.console import progress_bar
from audiorep.data.blocks import decode_blocks, resample_blocks
from audiorep.data.manifest import Manifest, read_corpus
from audiorep.data.packing import SHARDS, Packer, Place, damaged, digest, make_shards, plan, shard_sizes
from audiorep.data.store import INDEX, mend, read_index, root_of, store_beside
from audiorep.errors import AudioError, AudiorepError
from audiorep.files import output_folder, remove, write_json
from audiorep.rehearsal import Estimate, memory_bytes, show, size, spread

SAMPLE, LONGEST_S = 8, 10.0
"""Recordings, and seconds, that a dry run decodes."""

ROW_BYTES = 8192
"""Room for what is told of a recording while it is packed."""

log = logging.getLogger(__name__)


def pack(cfg: DictConfig) -> int:
    """Leaves shards and index of a store in `out`. Returns 3 where recordings are left out, else 0."""
    folder = Path(str(cfg.dry_run if cfg.dry_run and cfg.out is not None else cfg.out or store_beside(cfg.corpus)))
    if cfg.verify:
        return verify(folder)
    check(cfg)
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(cfg.corpus, instantiate(cfg.format), cfg.annotations, progress)
    places = plan(manifest.files, cfg.rate_hz, int(cfg.shard_mb * 2**20))
    needed = disk_bytes(places, folder, cfg.resume, cfg.overwrite)
    if cfg.dry_run:
        show(rehearse(places, needed, folder))
    refuse_full_disk(Estimate({}, 0, needed, folder))
    if cfg.dry_run:
        return 0
    with plain_errors():
        engine: Engine = instantiate(cfg.engine)
    out = output_folder(folder, resume=cfg.resume, overwrite=cfg.overwrite)
    if cfg.overwrite and not cfg.resume:
        shards = [path.name for path in out.glob(SHARDS)]
        remove(out, (INDEX, JOURNAL, PARTS, QUARANTINE, "pack.json", *shards))
    settings = {"rate_hz": cfg.rate_hz, "shard_mb": cfg.shard_mb, "recordings": digest(places)}
    make_shards(out, places)
    paths = [Path(path) for path in places]
    with progress_bar("packing") as progress:
        packer = Packer(out.resolve(), root_of(cfg.corpus), places)
        failed = process(paths, packer, out, settings, INDEX, engine, progress)
    recordings, lost = left_out(manifest, paths, failed)
    status = tell_left_out(recordings, lost, out)
    done, all_of_them = len(paths) - len(failed), len(paths) - len(failed) + len(lost)
    write_json(out / "pack.json", settings | {"corpus": str(cfg.corpus), "done": done, "left_out": len(lost)})
    kept = sum(place.length_bytes for place in places.values())
    log.info("wrote %s: %d of %d recording(s), %s", out, done, all_of_them, size(kept))
    return status


def check(cfg: DictConfig) -> None:
    """Refuse numbers that are none."""
    if cfg.rate_hz is not None and (not isinstance(cfg.rate_hz, int) or cfg.rate_hz < 1):
        raise AudiorepError(f"rate_hz={cfg.rate_hz}: a sample rate in Hz is needed, or null: each recording's own")
    if cfg.shard_mb <= 0:
        raise AudiorepError(f"shard_mb={cfg.shard_mb} must be above 0")


def left_out(
    manifest: Manifest, paths: list[Path], failed: list[tuple[Path, str]]
) -> tuple[Recordings, list[tuple[Path, str]]]:
    """What `tell_left_out` tells: recordings on the quarantine list are no failures, headers that cannot be read are."""
    whole = {Path(one.path): one.reason for one in manifest.quarantined if one.row is None}
    listed = {path: reason for path, reason in whole.items() if reason.startswith("quarantined: ")}
    unreadable = [(path, reason) for path, reason in whole.items() if path not in listed]
    plain = {path: reason.removeprefix("quarantined: ") for path, reason in listed.items()}
    return Recordings(paths, plain), [*unreadable, *failed]


def disk_bytes(places: Mapping[str, Place], folder: Path, resume: bool, overwrite: bool) -> int:
    """What is still to be written, less what goes."""
    if resume and (folder / INDEX).exists():
        return 0
    waiting = [place for path, place in places.items() if not (resume and part_of(Path(path), folder).exists())]
    gone = 0 if resume or not overwrite else sum(path.stat().st_size for path in folder.glob(SHARDS))
    return max(0, sum(place.length_bytes + ROW_BYTES for place in waiting) - gone)


def refuse_full_disk(estimate: Estimate) -> None:
    """Nothing is begun that does not fit.

    Raises:
        AudiorepError: the disk has less room.
    """
    if estimate.disk_bytes > estimate.free_bytes:
        raise AudiorepError(
            f"out={estimate.out}: the store takes {size(estimate.disk_bytes)} and the disk has {size(estimate.free_bytes)} "
            "left: free some space, choose another out=, or a lower rate_hz="
        )


def rehearse(places: Mapping[str, Place], needed: int, folder: Path) -> Estimate:
    """Decode a little, and tell what all takes."""
    done, took = 0, 0.0
    for path in spread(list(places), SAMPLE):
        place, began = places[path], time.monotonic()
        blocks = decode_blocks(path)
        if place.packed_hz != place.info.rate_hz:
            blocks = resample_blocks(blocks, place.info, place.packed_hz)
        with contextlib.suppress(AudioError):
            for samples in blocks:
                done, spent = done + samples.nbytes, took + time.monotonic() - began
                if spent > LONGEST_S:
                    break
        took += time.monotonic() - began
        if took > LONGEST_S:
            break
    total = sum(place.length_bytes for place in places.values())
    what = f"{len(places)} recordings into {len(shard_sizes(places))} shard(s), one after the other"
    return Estimate({what: total * took / max(1, done)}, memory_bytes(), needed, folder)


def verify(folder: Path) -> int:
    """Compare the checksum of every recording in a store.

    Raises:
        AudiorepError: samples that are not those that were packed.
    """
    if not (folder / INDEX).is_file():
        raise AudiorepError(f"out={folder}: no {INDEX} there: {mend(folder, 'resume')}")
    index, wrong = read_index(folder), []
    with progress_bar("comparing") as progress:
        for number, reason in enumerate(damaged(folder, index), 1):
            wrong += [] if reason is None else [reason]
            progress(number, len(index))
    for reason in wrong[1:]:
        log.warning("%s", reason)
    if wrong:
        raise AudiorepError(f"{folder}: {len(wrong)} recording(s) are damaged: {wrong[0]}; {mend(folder, 'overwrite')}")
    log.info("%s: the samples of all %d recording(s) are those that were packed", folder, len(index))
    return 0
