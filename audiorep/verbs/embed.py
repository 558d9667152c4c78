"""audiorep embed: an embedding for every window of any recordings."""

import contextlib
import logging
import time
from itertools import islice
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.apply.bulk import JOURNAL, PARTS
from audiorep.apply.embed import (
    EMBEDDINGS,
    Embedder,
    count_windows,
    embed_recording,
    embed_recordings,
    open_embedder,
)
from audiorep.apply.parts import Engine
from audiorep.apply.recordings import QUARANTINE, recordings_in, tell_left_out
from audiorep.build import device_of, plain_errors
from audiorep.console import progress_bar
from audiorep.data.audio import probe
from audiorep.errors import AudioError, AudiorepError
from audiorep.files import fingerprint, output_folder, remove, write_json
from audiorep.rehearsal import Estimate, memory_bytes, show, spread
from audiorep.running import PRECISIONS

log = logging.getLogger(__name__)


def embed(cfg: DictConfig) -> int:
    """Leaves ``out/embeddings.parquet``: path, start_s, end_s, embedding. Returns 3 where recordings are left out, else 0."""
    recordings = recordings_in(cfg.recordings)
    paths = recordings.paths
    with plain_errors():
        engine: Engine = instantiate(cfg.engine)
    embedder = open_embedder(cfg.model, device_of(cfg.accelerator), cfg.sample_rate_hz, cfg.precision)
    out = output_folder(cfg.out, resume=cfg.resume, overwrite=cfg.overwrite)
    hop = round((cfg.hop_s or embedder.window_samples / embedder.sample_rate_hz) * embedder.sample_rate_hz)
    if hop < 1:
        raise AudiorepError(f"hop_s={cfg.hop_s} is shorter than a sample")
    if cfg.overwrite and not cfg.resume:
        remove(out, (JOURNAL, PARTS, EMBEDDINGS, QUARANTINE, "embed.json"))
    settings = {"model": fingerprint(Path(cfg.model)), "sample_rate_hz": embedder.sample_rate_hz}
    settings |= {"window_samples": embedder.window_samples, "hop_samples": hop}
    settings |= {} if cfg.precision == PRECISIONS[0] else {"precision": cfg.precision}
    if cfg.dry_run:
        show(rehearse(paths, embedder, hop, cfg.batch_size, Path(str(cfg.dry_run))))
        return 0
    with progress_bar("embedding") as progress:
        failed = embed_recordings(paths, embedder, out, hop, settings, cfg.batch_size, progress, engine)
    status = tell_left_out(recordings, failed, out)
    counts = {"model": str(cfg.model), "fingerprint": settings["model"], "recordings": str(cfg.recordings)}
    counts |= {"done": len(paths) - len(failed), "left_out": len(failed), "quarantined": len(recordings.quarantined)}
    write_json(out / "embed.json", settings | counts)
    log.info("wrote %s: %d of %d recording(s)", out / EMBEDDINGS, len(paths) - len(failed), len(paths))
    return status


def rehearse(paths: list[Path], embedder: Embedder, hop: int, batch_size: int, out: Path) -> Estimate:
    """Embed a little, and tell what all recordings take."""
    windows, ready = 0, []
    with progress_bar("reading headers") as progress:
        for number, path in enumerate(paths, 1):
            try:
                windows += count_windows(probe(path), embedder, hop)
                ready.append(path)
            except AudioError as error:
                log.warning("would be left out: %s", error)
            progress(number, len(paths))
    if not ready:
        raise AudiorepError(f"none of {len(paths)} recording(s) can be read")
    done, took, row_bytes = 0, 0.0, 0.0
    for path in spread(ready, 4):
        with contextlib.suppress(AudioError):
            began = time.monotonic()
            for table in islice(embed_recording(path, embedder, hop, batch_size), 2):
                done, row_bytes = done + len(table), table.nbytes / len(table)
            took += time.monotonic() - began
    each = took / max(1, done)
    needed = round(2 * windows * row_bytes)  # parts, and all of them joined
    return Estimate(
        {f"{windows} windows of {len(ready)} recordings, one after the other": windows * each},
        memory_bytes(),
        needed,
        out,
    )
