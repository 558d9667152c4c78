"""A config from its folder and the keys that were given, and what is wrong with a key in one line."""

import difflib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from audiorep.errors import AudiorepError


def configs() -> Path:
    """Where the configs are: in the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"


def recipes() -> Path:
    """Where the recipes are, as `configs`."""
    return configs().parent / "recipes"


def compose(verb: str, overrides: list[str], source: Path | None = None) -> Any:
    """The verb's config (or the one at `source`) with overrides; errors of Hydra become one line with a suggestion."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    source = source or configs() / f"{verb}.yaml"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(source.parent.resolve()), version_base="1.3"):
        try:
            cfg = hydra_compose(source.stem, overrides, return_hydra_config=True)
            chosen = {g.split("@")[0]: c for g, c in cfg.hydra.runtime.choices.items() if not g.startswith("hydra")}
            with open_dict(cfg):
                del cfg["hydra"]
                cfg.chosen = chosen
            missing = sorted(OmegaConf.missing_keys(cfg))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise AudiorepError(explain(source.stem, error, hydra_compose)) from None
        check_types(plain_defaults(source), cfg)
    if missing:
        command = verb if source.stem == verb else f"{verb} {source.parent.name}"
        raise AudiorepError(f"{command} needs {missing[0]}=...; see audiorep {command} --help")
    return cfg


@cache
def plain_defaults(source: Path) -> Any:
    """The config at `source` as it is; Hydra must have been started in its folder."""
    from hydra import compose as hydra_compose

    return hydra_compose(source.stem)


def check_types(defaults: Any, cfg: Any) -> None:
    """Refuse text where the default is a number or true/false."""
    from omegaconf import OmegaConf

    for name in flatten(OmegaConf.to_container(defaults, resolve=False)):
        was, now = (OmegaConf.select(config, name, throw_on_resolution_failure=False) for config in (defaults, cfg))
        if isinstance(was, bool | int | float) and isinstance(now, str):
            wanted = "true or false" if isinstance(was, bool) else "a number"
            raise AudiorepError(f"{name}={now}: {wanted} is needed here, such as {str(was).lower()}")


def explain(config: str, error: Exception, hydra_compose: Any) -> str:
    """Hydra's complaint in one line, with the nearest right spelling."""
    from omegaconf import OmegaConf

    text = str(error)
    known = flatten(OmegaConf.to_container(hydra_compose(config), resolve=False)) + groups()
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, name = option.groups()
        return f"{group}={name} does not exist{nearest(name, options(group))}; there are: {', '.join(options(group))}"
    if key := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text):
        name = next(part for part in key.groups() if part)
        inside = re.search(rf"full_key: ({re.escape(name)}\.\S+)", str(error.__cause__))
        if inside:  # a part was given as a whole, {...}
            return f"{name} has no '{inside[1]}': to add it, say +{inside[1]}=VALUE"
        if (configs() / name).is_dir():
            return f"{name}=: the chosen objective has no such part; those that have it: {', '.join(with_part(name))}"
        return f"there is no key '{name}'{nearest(name, known)}; --help lists them"
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several[1]}: a comma makes several values, for -m; numbers have a point (0.2), lists brackets ([a,b])"
    return text.splitlines()[0]


def with_part(group: str) -> list[str]:
    """The objectives whose config, or a config that it builds on, names a config group."""
    folder = configs() / "objective"
    builds_on = {path.stem: path.read_text(encoding="utf-8") for path in (folder / "parts").glob("*.yaml")}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))}
    whole = {
        name: text + "".join(t for p, t in builds_on.items() if f"parts/{p}" in text) for name, text in texts.items()
    }
    return [name for name, text in whole.items() if f"/{group}:" in text]


def nearest(name: str, known: Sequence[str]) -> str:
    """ ", did you mean X?" where something is near."""
    near = difflib.get_close_matches(name, known, 1, 0.5) or [
        k for k in known if k.split(".")[-1] == name.split(".")[-1]
    ]
    return f", did you mean '{near[0]}'?" if near else ""


def flatten(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of all keys."""
    names = []
    for key, value in config.items() if isinstance(config, dict) else ():
        names += [f"{prefix}{key}", *flatten(value, f"{prefix}{key}.")]
    return names


def groups() -> list[str]:
    """Names of the config groups."""
    return sorted(path.name for path in configs().iterdir() if path.is_dir())


def options(group: str) -> list[str]:
    """What a group may be."""
    return sorted(path.stem for path in (configs() / group).glob("*.yaml"))
