"""format=auto recognises every format, the specific before the general, and says which it was."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from annotated import auto, wav

from audiorep.composing import compose
from audiorep.data.formats.writers import WRITERS
from audiorep.data.manifest import read_corpus

FILES = {
    "table": "t.csv",
    "raven_together": "all.txt",
    "birdnet": "B.txt",
    "birdnet_combined": "B.parquet",
    "generic_seq": "g.csv",
}
SAID = {
    "table": "manifest table",
    "raven": "Raven selection tables",
    "raven_together": "Raven selection tables",
    "audacity": "Audacity label tracks",
    "birdnet": "BirdNET detections",
    "birdnet_combined": "BirdNET detections",
    "birdnet_labels": "BirdNET detections",
    "generic_seq": "crowsetta's generic-seq",
    "simple_seq": "crowsetta's simple-seq",
    "hoplite": "hoplite",
    "animal_spot": "clips of ANIMAL-SPOT",
    "audio_folder": "Hugging Face's AudioFolder",
    "birdnet_folders": "training folders of BirdNET",
    "esc50": "the layout of ESC-50",
}
OWN_FOLDER = ("animal_spot", "audio_folder", "birdnet_folders", "esc50")


@pytest.mark.parametrize("writer", list(WRITERS))
def test_what_we_write_is_recognised_as_what_it_is(tmp_path, writer, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "recordings"
    paths = [str(wav(folder / name)) for name in ("a.wav", "b.wav")]
    label = ["owl|-rook", "rook|wren"] if writer == "birdnet_folders" else ["owl", "rook"]
    frame = pd.DataFrame({"path": paths, "start_s": 0.25, "end_s": 0.75, "label": label, "rate_hz": 8000, "score": 0.5})
    beside = WRITERS[writer](frame, tmp_path / "out" / FILES[writer] if writer in FILES else tmp_path / "out")
    alone = writer in OWN_FOLDER or writer == "table"
    places = [(tmp_path / "out" / FILES.get(writer, ""), None)] if alone else [(folder, tmp_path / "out")]
    if not alone:
        for path in beside:  # the same, beside the recordings
            (folder / path.name).write_bytes(path.read_bytes())
        places.append((folder, None))
    for source, annotations in places:
        caplog.clear()
        manifest = read_corpus(source, auto(), annotations)
        assert f"{source}: read as {SAID[writer]}" in caplog.text
        assert sorted(manifest.frame["label"]) == sorted(label) and not manifest.quarantined


def test_every_writer_is_tried_and_every_format_has_a_config():
    assert set(SAID) == set(WRITERS)
    formats = compose("index", ["recordings=x", "out=x.csv"]).format.formats
    listed = [one["_target_"].rsplit(".", 1)[1] for one in formats]
    configs = Path(__file__).parents[3] / "configs" / "format"
    single = [path for path in configs.glob("*.yaml") if path.stem != "auto"]
    assert {yaml.safe_load(path.read_text())["_target_"].rsplit(".", 1)[1] for path in single} == {*listed, "Names"}
    assert listed.index("BirdNET") < listed.index("Raven") < listed.index("Recordings")


def test_a_folder_read_without_labels_tells_which_table_in_it_has_some(tmp_path, caplog):
    wav(tmp_path / "a.wav")
    (tmp_path / "calls.csv").write_text("path,start_s,end_s,label\na.wav,0,1,song\n")
    (tmp_path / "weather.csv").write_text("time,label\n1,rain\n")
    assert set(auto().read(tmp_path, None)["label"]) == {""}
    assert f"say recordings={tmp_path / 'calls.csv'}" in caplog.text and "weather" not in caplog.text
