"""Output folders: what may be written into, and by whom."""

import subprocess
import sys

import pytest

from audiorep.errors import AudiorepError
from audiorep.files import output_folder

HOLD = "import sys; from audiorep.files import output_folder; output_folder(sys.argv[1]); print('held', flush=True); input()"


def test_a_folder_is_one_process_s_until_it_ends(tmp_path):
    out = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(AudiorepError, match="another audiorep is writing there"):
            output_folder(out, resume=True)
        other.kill()
    assert output_folder(out, resume=True) == output_folder(out, resume=True) == out  # its own twice


def test_what_a_refused_run_left_does_not_stop_the_next(tmp_path):
    (tmp_path / "quarantine.csv").touch()
    assert output_folder(tmp_path) == tmp_path
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(AudiorepError, match="is not empty"):
        output_folder(tmp_path)
