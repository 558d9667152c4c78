"""The table of annotation formats, from their configs and the docstrings of their classes."""

import inspect
import re

import yaml
from hydra.utils import get_class
from method_pages import row

from audiorep.composing import configs
from audiorep.data.formats.writers import FILES, WRITERS


def formats() -> str:
    """What is read: the head of each config and of its class, and whether `format=auto` recognises it by itself."""
    auto = (configs() / "format" / "auto.yaml").read_text(encoding="utf-8")
    lines = ["| `format=` | what | by itself | keys |\n|---|---|---|---|\n"]
    for path in sorted((configs() / "format").glob("*.yaml")):
        if path.stem == "auto":
            continue
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
        head = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
        says = inspect.cleandoc(get_class(config["_target_"]).__doc__ or "").split("\n\n")[0]
        says = re.sub(r"\s+", " ", says).replace("``", "`")
        keys = ", ".join(f"`format.{key}`" for key in config if key != "_target_")
        lines.append(
            row(
                f"`{path.stem}`", f"{head.rstrip('.')}. {says}", "yes" if config["_target_"] in auto else "say it", keys
            )
        )
    return "".join(lines)


def writers() -> str:
    """What is written, and into what."""
    lines = ["| `to=` | out= is | what |\n|---|---|---|\n"]
    for name, write in WRITERS.items():
        says = re.sub(r"\s+", " ", inspect.cleandoc(write.__doc__ or "").split("\n\n")[0]).replace("``", "`")
        lines.append(row(f"`{name}`", " or ".join(FILES[name]) if name in FILES else "a folder", says))
    return "".join(lines)
