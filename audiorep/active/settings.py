"""What is said of a selection: strategies by name, numbers that may be left to us."""

import logging

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep import build
from audiorep.composing import compose, options
from audiorep.errors import AudiorepError
from audiorep.select.pool import Selector

log = logging.getLogger(__name__)


def named(name: str, key: str) -> Selector:
    """The selector of that name, with its defaults."""
    if name not in options("selector"):
        raise AudiorepError(f"{key}={name} is no strategy; there are: {', '.join(options('selector'))}")
    with build.plain_errors():
        made: Selector = instantiate(compose("active", ["corpus=none", f"selector={name}"]).selector)
    return made


def number(cfg: DictConfig, name: str, otherwise: int, meaning: str = "chosen for this corpus") -> int:
    """A setting that may be `auto`: then `otherwise`, and the log says what that means, with the number for {}."""
    value = cfg[name]
    if value == "auto":
        log.info("%s (%s=%d)", meaning.format(otherwise), name, otherwise)
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int):
        raise AudiorepError(f"{name}={value}: a whole number or auto is needed")
    return value
