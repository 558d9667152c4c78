"""A page of HTML from a template: whatever a stranger wrote is escaped, and a name that the template lacks is an error."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from audiorep import __version__


def render(package: str, template: str, filters: Mapping[str, Callable[..., str]] | None = None, **told: Any) -> str:
    """The page that ``PACKAGE/templates/TEMPLATE`` makes of what it is told, and of audiorep's version.

    Templates may include those of `audiorep/templates`, which all pages share.
    """
    page = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("audiorep")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= dict(filters or {})
    return page.get_template(template).render(version=__version__, **told)
