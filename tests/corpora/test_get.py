"""`audiorep get`: every public corpus from a small copy of its layout; downloads that break, go on and are checked."""

import hashlib
import importlib.resources
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_cli import refused, run

from audiorep.composing import compose, configs
from audiorep.corpora import download
from audiorep.corpora.download import File, fetch
from audiorep.corpora.unpack import unpack
from audiorep.errors import AudiorepError

NAMES = sorted(path.stem for path in (configs() / "public").glob("[!_]*.yaml"))


def wav(path: Path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(round(seconds * 8000)) / 9), 8000)


def esc50(folder: Path) -> set[tuple[str, str]]:
    (folder / "ESC-50-master" / "meta").mkdir(parents=True)
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for name, fold, target, label in (("1-100-A-0.wav", 1, 0, "dog"), ("2-200-A-36.wav", 2, 36, "vacuum_cleaner")):
        wav(folder / "ESC-50-master" / "audio" / name)
        lines.append(f"{name},{fold},{target},{label},True,{name.split('-')[1]},A")
    (folder / "ESC-50-master" / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return {("dog", "100"), ("vacuum_cleaner", "200")}


def fsdd(folder: Path) -> set[tuple[str, str]]:
    for name in ("0_jackson_0.wav", "7_theo_12.wav"):
        wav(folder / "free-spoken-digit-dataset-master" / "recordings" / name)
    return {("0", "jackson"), ("7", "theo")}


def catmeows(folder: Path) -> set[tuple[str, str]]:
    for name in ("B_ANI01_MC_FN_SIM01_101.wav", "I_BLE01_EU_FN_DEL01_102.wav"):
        wav(folder / "dataset" / name)
    return {("brushing", "ANI01"), ("isolation", "BLE01")}


def finch(folder: Path) -> set[tuple[str, str]]:
    pytest.importorskip("crowsetta", reason="crowsetta is not installed (audiorep[crowsetta])")
    shipped = Path(str(importlib.resources.files("crowsetta.examples")))
    xml = next(shipped.glob("Annotation.xml")).read_text()
    (folder / "Bird0" / "Wave").mkdir(parents=True)
    (folder / "Bird0" / "Annotation.xml").write_text(xml)
    for i in range(3):
        wav(folder / "Bird0" / "Wave" / f"{i}.wav", 20.0)
    return set()


def with_table(table: str, audio: str) -> Callable[[Path], set[tuple[str, str]]]:
    def make(folder: Path) -> set[tuple[str, str]]:
        wav(folder / audio / "a 1.wav")
        folder.mkdir(exist_ok=True)
        (folder / "annotations.csv").write_text(table)
        return {("one", "")}

    return make


def soundscapes(folder: Path) -> set[tuple[str, str]]:
    wav(folder / "UHH_001.wav", 5.0)
    return {("apapan", ""), ("hawama", "")}


SOUNDSCAPES = "Filename,Start Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Species eBird Code\n"
SOUNDSCAPES += "UHH_001.wav,0.5,1.5,500.0,3000.0,apapan\nUHH_001.wav,2.0,4.0,800.0,3900.0,hawama\n"

LAYOUTS: dict[str, Callable[[Path], set[tuple[str, str]]]] = {
    "esc50": esc50,
    "fsdd": fsdd,
    "catmeows": catmeows,
    "bengalese_finch": finch,
    "watkins": with_table("path,species\nx/a 1.wav,one\n", "x"),
    "dogs": with_table("filename,name\na 1.wav,one\n", "audio"),
    "fruit_bats": with_table("File Name,Emitter\na 1.wav,one\n", "audio"),
} | {name: soundscapes for name in NAMES if name.startswith("birdset_")}


def zipped(folder: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


def mirrored(name: str, tmp_path: Path) -> tuple[Path, set[tuple[str, str]]]:
    """A mirror folder with a small copy of a corpus, and its labels and groups."""
    mirror, wanted = tmp_path / "mirror", LAYOUTS[name](tmp_path / "content")
    for file in compose("get", [], configs() / "public" / f"{name}.yaml").files:
        if file.get("unpack", True):
            zipped(tmp_path / "content", mirror / file.name)
        else:
            (mirror / file.name).write_text(SOUNDSCAPES) if mirror.exists() else mirror.mkdir()
            (mirror / file.name).write_text(SOUNDSCAPES)
    return mirror, wanted


@pytest.mark.parametrize("name", NAMES)
def test_every_corpus_is_read_from_a_small_copy_of_its_layout(name, tmp_path, capsys):
    mirror, wanted = mirrored(name, tmp_path)
    given = [f"out={tmp_path / 'out'}", f"mirror={mirror}"]
    if name == "watkins":  # its checksum is known: the small copy is not what was published
        assert "is not the file that was published" in refused(capsys, "get", name, *given)
        given.append("files.0.hash=null")
    assert run("get", name, *given) == 0
    table = pd.read_csv(tmp_path / "out" / "corpus.csv", dtype=str, keep_default_na=False)
    labels = {label for label, _ in wanted}
    assert set(table["label"]) == labels if labels else table["label"].nunique() > 3
    named = {(row.label, row.group) for row in table.itertuples() if row.group}
    assert {pair for pair in wanted if pair[1]} <= named
    assert all((tmp_path / "out" / path).is_file() for path in table["path"])
    source = (tmp_path / "out" / "SOURCE.txt").read_text()
    assert "licence: " in source and "cite: " in source and "licence: " in capsys.readouterr().err
    if name.startswith("birdset_"):
        assert table["low_hz"].astype(float).tolist() == [500.0, 800.0] and table["start_s"].astype(float)[1] == 2.0
    assert run("get", name, *given) == 0  # once more: nothing is unpacked again


def test_wrong_names_and_folders_get_one_line(tmp_path, capsys):
    assert "there is no corpus 'esc5', did you mean 'esc50'?" in refused(capsys, "get", "esc5")
    assert "mirror=" in refused(capsys, "get", "esc50", f"out={tmp_path / 'o'}", f"mirror={tmp_path / 'none'}")
    assert run("get") == 2 and "catmeows" in capsys.readouterr().err
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "ESC-50-master.zip").write_text("<html>Not found</html>")
    said = refused(capsys, "get", "esc50", f"out={tmp_path / 'o'}", f"mirror={tmp_path / 'm'}")
    assert "neither a zip nor a tar file" in said


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    for name in ("../evil.wav", "/evil.wav", "a/../../evil.wav", "..\\evil.wav"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(AudiorepError, match="leads out of it"):
            unpack(tmp_path / "a.zip", tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


# ------------------------------------------------------------ a server that breaks off

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; the first `breaks` answers end in the middle."""

    breaks, ranges, asked = 0, True, list[str | None]()

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        if self.path == "/none.zip":
            self.send_error(404)
            return
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if first >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.end_headers()
        if type(self).breaks > 0:
            type(self).breaks -= 1
            self.wfile.write(CONTENT[first : first + 1_000_000])
            self.close_connection = True
            return
        self.wfile.write(CONTENT[first:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(download, "WAIT_S", 0.01)
    Server.breaks, Server.ranges, Server.asked = 0, True, []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()


SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def test_a_connection_that_breaks_goes_on_where_it_was(server, tmp_path):
    Server.breaks, seen = 2, []
    path = fetch(File(f"{server}/a.zip", "a.zip", SHA), tmp_path, None, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT and not list(tmp_path.glob("*.part"))
    begun = [int(a[6:-1]) for a in Server.asked[1:]]
    assert Server.asked[0] is None and 0 < begun[0] <= 1_000_000 < begun[1] <= 2_000_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    fetch(File(f"{server}/a.zip", "a.zip", SHA), tmp_path)
    assert len(Server.asked) == 3


def test_a_download_that_was_given_up_goes_on_at_the_next_command(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 1)
    Server.breaks = 1
    with pytest.raises(AudiorepError, match=r"cannot download .*the same command goes on.*mirror=FOLDER takes a\.zip"):
        fetch(File(f"{server}/a.zip", "a.zip", SHA), tmp_path)
    have = (tmp_path / "a.zip.part").stat().st_size
    assert have > 0
    Server.breaks, Server.asked = 0, []
    assert fetch(File(f"{server}/a.zip", "a.zip", SHA), tmp_path).read_bytes() == CONTENT
    assert Server.asked == [f"bytes={have}-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    Server.breaks, Server.ranges = 1, False
    assert fetch(File(f"{server}/a.zip", "a.zip", SHA), tmp_path).read_bytes() == CONTENT


def test_another_file_than_was_published_and_one_that_is_not_there_are_refused(server, tmp_path):
    with pytest.raises(AudiorepError, match="hash"):
        fetch(File(f"{server}/a.zip", "a.zip", "md5:" + "0" * 32), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(AudiorepError, match="404"):
        fetch(File(f"{server}/none.zip", "none.zip"), tmp_path)


def test_a_file_of_a_doi_is_checked_as_its_archive_tells(server, tmp_path, monkeypatch):
    class Archive:
        def __init__(self, doi, **_):
            assert doi.strip("/") == "10.5281/zenodo.1"

        def download_url(self, name):
            return f"{server}/{name}"

        def populate_registry(self, pooch):
            pooch.registry["a.zip"] = "md5:" + hashlib.md5(CONTENT).hexdigest()

    monkeypatch.setattr("pooch.downloaders.doi_to_repository", Archive)
    monkeypatch.setattr("pooch.core.doi_to_repository", Archive)
    assert fetch(File("doi:10.5281/zenodo.1/a.zip", "a.zip"), tmp_path).read_bytes() == CONTENT
    with pytest.raises(AudiorepError, match=r"holds no file b\.zip; there are: a\.zip"):
        fetch(File("doi:10.5281/zenodo.1/b.zip", "b.zip"), tmp_path)
