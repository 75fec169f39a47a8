"""Bars on terminals, and in logs."""

from __future__ import annotations

import io

import pytest
import tqdm.std

from stylize.console.bars import LOG_SECONDS, make_bar


class Stderr(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_gets_a_word_a_minute(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an hour of steps, one a second, which a terminal sees one by one."""
    stderr, now = Stderr(terminal), 0.0
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr(tqdm.std, "time", lambda: now)
    monkeypatch.setattr(tqdm.std.tqdm, "monitor_interval", 0)  # a thread that has its own clock
    with make_bar(False, total=3600, unit="step") as bar:
        for _ in range(3600):
            now += 1
            bar.update()
    words = stderr.getvalue().count("\r")
    # One more at its beginning and at its end.
    assert words == 2 + (3600 if terminal else 3600 / LOG_SECONDS)


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Stderr(True)
    monkeypatch.setattr("sys.stderr", stderr)
    with make_bar(True, total=2) as bar:
        bar.update()
    assert stderr.getvalue() == ""
