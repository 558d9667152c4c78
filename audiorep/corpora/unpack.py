"""Archives of corpora, unpacked whole or not at all, and never outside their folder."""

import shutil
import tarfile
import zipfile
from pathlib import Path

from audiorep.errors import AudiorepError


def unpack(archive: Path, out: Path) -> None:
    """Unpack a .zip or .tar(.gz, .bz2, .xz) into the new folder `out`; nothing is done where it is there.

    Raises:
        AudiorepError: not such an archive, a damaged one, or one with paths that lead out of it.
    """
    if out.exists():
        return
    beside = out.with_name(f".{out.name}.unpacking")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                if outside := [name for name in file.namelist() if leads_out(name)]:
                    raise AudiorepError(f"{archive}: the path {outside[0]} in it leads out of it")
                file.extractall(beside)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(beside, filter="data")
        else:
            raise AudiorepError(
                f"{archive}: neither a zip nor a tar file; was the download a page with an error on it?"
            )
        beside.replace(out)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise AudiorepError(f"{archive}: cannot be unpacked: {error}; remove it to download it again") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def leads_out(name: str) -> bool:
    """Whether a path in an archive would lead out of the folder that it is unpacked into."""
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]
