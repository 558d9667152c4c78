"""Exact resume: everything that the next step depends on, in one file that is either whole or not there."""

import io
import time
from pathlib import Path
from typing import Any

import torch

from audiorep.errors import AudiorepError
from audiorep.files import write_bytes

VERSION = 1


class Checkpoint:
    """Saves a learner's state every `every_s` seconds and loads it again.

    Random draws depend on (seed, step) alone, so the state is: step, weights and buffers, optimisers, schedules.
    """

    def __init__(self, path: Path, every_s: float = 30.0) -> None:
        self.path, self.every_s = path, every_s
        self.saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self.saved_at >= self.every_s

    def save(self, step: int, state: dict[str, Any], setting: dict[str, Any]) -> None:
        """Write atomically. `setting` is what must be the same on resume (seed, batch size, parts ...)."""
        memory = io.BytesIO()
        torch.save({"audiorep_checkpoint": VERSION, "step": step, "state": state, "setting": setting}, memory)
        write_bytes(self.path, memory.getbuffer())
        self.saved_at = time.monotonic()

    def load(self, setting: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Read step and state.

        Raises:
            AudiorepError: not a checkpoint, of another version, or of a run with other settings.
        """
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen unrelated types on a damaged or foreign file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise AudiorepError(f"{self.path}: not readable as an audiorep checkpoint: {reason}") from error
        version = content.get("audiorep_checkpoint") if isinstance(content, dict) else None
        if version != VERSION:
            raise AudiorepError(
                f"{self.path}: checkpoint of version {version}, this audiorep reads version {VERSION}: "
                "finish that run with the audiorep that began it, or start anew in another out="
            )
        different = sorted(
            k for k in setting.keys() | content["setting"].keys() if setting.get(k) != content["setting"].get(k)
        )
        if different:
            was = content["setting"].get(different[0])
            raise AudiorepError(
                f"{self.path}: the run was begun with {different[0]}={was}, not {setting.get(different[0])}: "
                "resume with the same settings, or start anew in another out="
            )
        return int(content["step"]), content["state"]
