"""audiorep run: a recipe, that is a whole procedure, by one command."""

from hydra.utils import get_method
from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Call the function that the recipe names with the recipe's own keys."""
    get_method(cfg._target_)(cfg)
