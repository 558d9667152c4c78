"""audiorep demo: the whole way on a built-in corpus: make it, check it, pretrain, train a classifier, export, embed."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from audiorep.composing import compose
from audiorep.console import progress_bar
from audiorep.data.demo import generate_demo_corpus
from audiorep.data.manifest import canonical, write_manifest
from audiorep.evaluate.results import read_thresholds
from audiorep.files import output_folder, remove
from audiorep.overrides import quoted
from audiorep.verbs.check import check
from audiorep.verbs.detect import detect
from audiorep.verbs.embed import embed
from audiorep.verbs.export import export
from audiorep.verbs.index import index
from audiorep.verbs.pretrain import pretrain
from audiorep.verbs.train import train

log = logging.getLogger(__name__)


def demo(cfg: DictConfig) -> dict[str, float]:
    """Run every verb in turn; leaves corpus, run, bundle, embeddings and detections in `out`."""
    began = time.monotonic()
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    if cfg.overwrite:
        remove(
            out,
            (
                "corpus",
                "run",
                "classifier",
                "bundle",
                "embeddings",
                "detections",
                "recordings.csv",
                "corpus.csv",
                "check.json",
            ),
        )
    corpus = out / "corpus"
    step("1 of 8", "make a corpus: twelve call types, six sites, three recorders")
    with progress_bar("writing recordings") as progress:
        manifest = generate_demo_corpus(corpus, minutes=float(cfg.minutes), seed=cfg.seed, progress=progress)
    step("2 of 8", "index: long recordings with Raven tables become one manifest")
    index(settings("index", recordings=corpus / "recordings", out=out / "recordings.csv"))
    step("3 of 8", "check: the corpus doctor")
    joined = join([manifest, manifest.with_name("noise.csv")], out / "recordings.csv", out / "corpus.csv")
    check(settings("check", corpus=joined, out=out / "check.json"))
    step("4 of 8", "pretrain on the sites that are not held out, then evaluate on those that are")
    run = out / "run"
    pretraining = OmegaConf.merge(cfg, {"corpus": str(joined), "out": str(run)})
    metrics = pretrain(OmegaConf.create(OmegaConf.to_container(pretraining)))  # type: ignore[arg-type]
    step("5 of 8", "train a classifier of the twelve calls from there; the unlabelled rows take part")
    keys = [f"seed={cfg.seed}", f"split.folds={cfg.split.folds}", f"trainer.max_steps={cfg.classifier_steps}"]
    classifier = compose("train", ["objective=mean_teacher", quoted(f"corpus={joined}"), *keys, quoted(f"init={run}"),
                                   quoted(f"out={out / 'classifier'}")])  # fmt: skip
    metrics |= train(classifier)
    step("6 of 8", "export: one folder to share, ONNX checked against torch")
    named = {"license": "cc0-1.0", "title": "audiorep demo classifier"}
    export(settings("export", model=out / "classifier", out=out / "bundle", **named))
    step("7 of 8", "embed the long recordings with the exported model")
    embed(
        settings("embed", model=out / "bundle" / "model.onnx", recordings=corpus / "recordings", out=out / "embeddings")
    )
    step("8 of 8", "detect calls in them, for Raven, and sum them up")
    paths = {"model": out / "bundle", "recordings": corpus / "recordings", "out": out / "detections"}
    keys = [quoted(f"{name}={path}") for name, path in paths.items()]
    marks = read_thresholds(out / "bundle" / "thresholds.json")["classes"].values()
    if all(mark["threshold"] is None for mark in marks):
        keys.append("threshold=0.5")  # a demo of a few minutes holds too few labels to calibrate on
    detect(compose("detect", [*keys, "to=raven", "summary=true"]))
    reports = " and ".join(str(folder / "report.html") for folder in (run, out / "classifier"))
    log.info("done in %.0f s; open %s", time.monotonic() - began, reports)
    return metrics


def join(clips: Sequence[Path], recordings: Path, out: Path) -> Path:
    """Clips, some of them labelled, and the long recordings as unlabelled rows: the corpus that a user has."""
    few = [canonical(pd.read_csv(path, keep_default_na=False, dtype=str), path) for path in clips]
    paths = canonical(pd.read_csv(recordings, usecols=["path"], dtype=str), recordings)["path"].drop_duplicates()
    sites = [Path(path).name.split("_")[0] for path in paths]
    whole = pd.DataFrame({"path": paths.to_numpy(), "label": "", "group": sites})
    write_manifest(pd.concat([*few, whole], ignore_index=True), out)
    return out


def settings(verb: str, **keys: object) -> DictConfig:
    """A verb's config with some keys set."""
    cfg = compose(verb, [f"{name}=." for name in keys])
    for name, value in keys.items():
        cfg[name] = str(value)
    return cfg


def step(number: str, what: str) -> None:
    """Say what comes next."""
    log.info("step %s: %s", number, what)
