"""Import torchaudio also where its compiled extension cannot load (CPU builds of torch).

torchaudio's wheels carry an extension linked against CUDA; beside a CPU build of torch, ``import torchaudio`` fails.
audiorep needs only its Python parts (functional, transforms, compliance.kaldi, models). Where the import fails on the
extension, this module declares the extension absent, as torchaudio itself does for builds made without it, and
imports again. Where torchaudio loads by itself nothing is changed.

Use ``from audiorep.torchaudio import torchaudio``.
"""

import importlib
import sys
from types import ModuleType

__all__ = ["torchaudio"]


def _needs_extension(*_args: object, **_kwargs: object) -> None:
    raise RuntimeError("this torchaudio function needs torchaudio's compiled extension, which does not load here")


def _without_extension() -> ModuleType:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    stub = ModuleType("torchaudio._extension")
    vars(stub).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False)
    vars(stub).update(fail_if_no_align=lambda _function: _needs_extension, _check_cuda_version=lambda: None)
    sys.modules["torchaudio._extension"] = stub
    return importlib.import_module("torchaudio")


try:
    torchaudio = importlib.import_module("torchaudio")
    importlib.import_module("torchaudio.compliance.kaldi")
except OSError:
    torchaudio = _without_extension()
