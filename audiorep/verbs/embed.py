"""audiorep embed: an embedding for every window of any recordings."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from audiorep.apply.embed import embed_recordings, open_embedder
from audiorep.build import device_of
from audiorep.console import progress_bar
from audiorep.data.audio import is_audio
from audiorep.data.formats.folders import find_audio
from audiorep.data.manifest import Quarantined, write_quarantine
from audiorep.errors import AudiorepError
from audiorep.files import fingerprint, output_folder, remove, write_json

log = logging.getLogger(__name__)


def embed(cfg: DictConfig) -> None:
    """Leaves ``out/embeddings.parquet``: path, start_s, end_s, embedding."""
    recordings = Path(cfg.recordings).expanduser()
    if not recordings.exists():
        raise AudiorepError(f"recordings={recordings}: no such file or folder")
    paths = [recordings] if recordings.is_file() else find_audio(recordings)
    if not paths or (recordings.is_file() and not is_audio(recordings)):
        raise AudiorepError(f"recordings={recordings}: no recordings there that can be decoded")
    embedder = open_embedder(cfg.model, device_of(cfg.accelerator), cfg.sample_rate_hz)
    out = output_folder(cfg.out, resume=cfg.resume, overwrite=cfg.overwrite)
    hop = round((cfg.hop_s or embedder.window_samples / embedder.sample_rate_hz) * embedder.sample_rate_hz)
    if hop < 1:
        raise AudiorepError(f"hop_s={cfg.hop_s} is shorter than a sample")
    if cfg.overwrite and not cfg.resume:
        remove(out, ("parts", "embeddings.parquet", "quarantine.csv", "embed.json"))
    settings = {"model": fingerprint(Path(cfg.model)), "sample_rate_hz": embedder.sample_rate_hz}
    settings |= {"window_samples": embedder.window_samples, "hop_samples": hop}
    with progress_bar("embedding") as progress:
        failed = embed_recordings([p.resolve() for p in paths], embedder, out, hop, settings, cfg.batch_size, progress)
    if failed:
        write_quarantine([Quarantined(str(path), None, reason) for path, reason in failed], out / "quarantine.csv")
        log.warning(
            "%d recording(s) left out, the first: %s: %s; all in %s", len(failed), *failed[0], out / "quarantine.csv"
        )
    counts = {"model": str(cfg.model), "recordings": str(recordings), "done": len(paths) - len(failed)}
    write_json(out / "embed.json", settings | counts | {"left_out": len(failed)})
    log.info("wrote %s: %d recording(s)", out / "embeddings.parquet", len(paths) - len(failed))
