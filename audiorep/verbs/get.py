"""audiorep get: public corpora by name."""

import logging
import shutil
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from audiorep.console import console, progress_bar
from audiorep.corpora.download import File, fetch
from audiorep.corpora.unpack import unpack
from audiorep.data.guano import add_recorded
from audiorep.data.manifest import read_corpus, write_manifest, write_quarantine
from audiorep.errors import AudiorepError
from audiorep.files import output_folder, write_text

log = logging.getLogger(__name__)

DOWNLOADS, UNPACKED = "downloads", "files"


def get(cfg: DictConfig) -> None:
    """Leaves in `out` the recordings, ``corpus.csv``, and ``SOURCE.txt``: where they are from, licence, whom to cite."""
    mirror = None if cfg.mirror is None else Path(str(cfg.mirror)).expanduser()
    if mirror is not None and not mirror.is_dir():
        raise AudiorepError(f"mirror={mirror} is no folder")
    out = output_folder(Path(str(cfg.out)).expanduser(), resume=True)
    facts = {"what": cfg.what, "licence": cfg.licence, "cite": cfg.cite, "from": cfg.homepage}
    for name, value in facts.items():
        console.print(f"[bold]{name}[/]: {value}", highlight=False)
    write_text(out / "SOURCE.txt", "".join(f"{name}: {value}\n" for name, value in facts.items()))
    for settings in cfg.files:
        file = File(settings.url, settings.name, settings.get("hash"))
        with progress_bar(file.name) as progress:
            path = fetch(file, out / DOWNLOADS, mirror, progress)
        place = out / UNPACKED / str(settings.get("into", ""))
        if settings.get("unpack", True):
            unpack(path, place)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / file.name)
    manifest_of(cfg, out)
    if not cfg.keep and (out / DOWNLOADS).exists():
        shutil.rmtree(out / DOWNLOADS)


def manifest_of(cfg: DictConfig, out: Path) -> None:
    """Write ``corpus.csv`` of what was unpacked, and what of it cannot be used.

    Raises:
        AudiorepError: it does not look as described.
    """
    files, format = out / UNPACKED, instantiate(OmegaConf.to_container(cfg.format))
    annotations = None if cfg.annotations is None else files / str(cfg.annotations)
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(files / str(cfg.recordings), format, annotations, progress)
    write_manifest(add_recorded(manifest.frame), out / "corpus.csv")
    if manifest.quarantined:
        write_quarantine(manifest.quarantined, out / "quarantine.csv")
        log.warning("%d left out; all in %s", len(manifest.quarantined), out / "quarantine.csv")
    found = len(manifest.files)
    if cfg.expected is not None and found != cfg.expected:
        log.warning(
            "%d recordings, %d were expected: the corpus was changed, or a part of it is missing", found, cfg.expected
        )
    labelled = manifest.frame["label"] != ""
    log.info(
        "wrote %s: %d recordings, %d rows, %d classes", out / "corpus.csv", found, len(manifest.frame),
        manifest.frame.loc[labelled, "label"].nunique(),
    )  # fmt: skip
