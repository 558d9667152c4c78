"""What is told of long work where there is no terminal."""

from audiorep import console
from audiorep.console import EveryMinute, progress_bar


def test_without_a_terminal_there_is_a_line_a_minute(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with caplog.at_level("INFO"), progress_bar("embedding") as progress:
        assert isinstance(progress, EveryMinute)
        for second in range(150):
            now[0] = 100.0 + second
            progress(second, 150)
    assert [record.message for record in caplog.records] == ["embedding: 60 of 150", "embedding: 120 of 150"]
