"""Files of public corpora: from a mirror folder, or downloaded so that a broken download goes on where it stopped."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from audiorep.errors import AudiorepError

log = logging.getLogger(__name__)

PIECE = 2**18
"""Bytes read at a time."""

TRIES, WAIT_S, TIMEOUT_S = 5, 2.0, 30
"""How often a connection that broke is made again, after how long, and how long it may be silent."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class File:
    """One file of a corpus.

    url: where it is, or ``doi:DOI/NAME``. name: what it is called here. hash: ``md5:...`` or ``sha256:...``; None: as the
    archive that holds it tells, if it does.
    """

    url: str
    name: str
    hash: str | None = None


def fetch(file: File, folder: Path, mirror: Path | None = None, progress: Progress = lambda done, total: None) -> Path:
    """The file, from `mirror` if it is there, else from `folder`, else downloaded into that; its checksum holds.

    Raises:
        AudiorepError: it cannot be downloaded, or is not the file that was published.
    """
    held = None if mirror is None else mirror / file.name
    try:
        if held is not None and held.is_file():
            if file.hash and not pooch.hashes.hash_matches(str(held), file.hash):
                raise AudiorepError(f"{held}: is not the file that was published ({file.hash}); download it again")
            return held
        known = file.hash or published_hash(file)
        resumable = Resumable(folder / f"{file.name}.part", progress)
        return Path(pooch.retrieve(file.url, known, fname=file.name, path=folder, downloader=resumable))
    except ValueError as error:  # of pooch: another checksum, or no such file in the archive
        (folder / f"{file.name}.part").unlink(missing_ok=True)
        raise AudiorepError(f"{file.url}: {str(error).splitlines()[0]}") from error
    except requests.RequestException as error:
        raise AudiorepError(
            f"cannot download {file.url}: {error}; the same command goes on where this stopped, and mirror=FOLDER takes "
            f"{file.name} from a folder"
        ) from error


def published_hash(file: File) -> str | None:
    """The checksum that the archive of a DOI tells; None without one.

    Raises:
        ValueError: the archive has no such file.
    """
    if not file.url.startswith("doi:"):
        return None
    doi, _, name = file.url.rpartition("/")
    registry = pooch.create(path="unused", base_url=f"{doi}/", registry=None)
    registry.load_registry_from_doi()
    if name not in registry.registry:
        raise ValueError(f"{doi} holds no file {name}; there are: {', '.join(sorted(registry.registry))}")
    return str(registry.registry[name])


class Resumable:
    """Downloads for pooch, by HTTP; what has come stays in `part` until all is there.

    A connection that breaks is made again a few times, and asked for the rest only.
    """

    def __init__(self, part: Path, progress: Progress = lambda done, total: None) -> None:
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        if url.startswith("doi:"):
            doi, _, name = url.removeprefix("doi:").rpartition("/")
            url = pooch.downloaders.doi_to_repository(doi, timeout=TIMEOUT_S).download_url(name)
        self.part.parent.mkdir(parents=True, exist_ok=True)
        for left in reversed(range(TRIES)):
            try:
                self.go_on(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if not left:
                    raise
                log.info("%s: %s; once more in %g s", url, error, WAIT_S)
                time.sleep(WAIT_S)
        self.part.replace(output_file)

    def go_on(self, url: str) -> None:
        """Ask for what is not there yet, and add it.

        Raises:
            requests.RequestException: no such file, a connection that breaks, fewer bytes than were promised.
        """
        have = self.part.stat().st_size if self.part.exists() else 0
        asked = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=asked, stream=True, timeout=TIMEOUT_S, allow_redirects=True) as answer:
            if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # all of it was there
            answer.raise_for_status()
            goes_on = have and answer.status_code == requests.codes.partial_content
            have = have if goes_on else 0
            total = have + int(answer.headers.get("Content-Length", 0))
            with self.part.open("ab" if goes_on else "wb") as out:
                for piece in answer.iter_content(PIECE):
                    out.write(piece)
                    have += len(piece)
                    self.progress(have, total)
            if have < total:
                raise requests.ConnectionError(f"{have} of {total} bytes came")
