"""Results and messages on streams that are full, closed, broken, or of another encoding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from long_tests import in_long

KDCAM = f"{sys.executable} -m kdcam"
FULL = Path("/dev/full")
LOST = "kdcam: error: stdout: the result cannot be written"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line in bash, in which $K is the command; its exit code is that of the first program of a pipe."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        env={**os.environ, "K": KDCAM, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


# With and without a buffer a write fails at another place.
@pytest.mark.parametrize("unbuffered", ["1", in_long("")])
@pytest.mark.parametrize(
    "command",  # a table, a document, a page; only the first waits for torch
    ["losses list", "recipes show digits --json", "recipes show digits", "--version", "--help"],
)
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_stdout_is_one_line(command: str, unbuffered: str) -> None:
    done = shell(f"$K {command} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{LOST} (No space left on device)\n"


def test_a_closed_stdout_is_one_line() -> None:
    done = shell("$K losses list >&-")
    assert (done.returncode, done.stderr) == (1, f"{LOST} (it is closed)\n")


@pytest.mark.parametrize("lost", ["2>&-", in_long("2>/dev/full")])
def test_without_stderr_the_work_goes_on(lost: str, tmp_path: Path) -> None:
    if "full" in lost and not FULL.exists():
        pytest.skip("no /dev/full")
    sets = "--set epochs=1 --set data.validation=0.5"
    done = shell(f"$K train digits {sets} --output run {lost}")
    assert done.returncode == 0
    assert "run finished" in done.stdout
    assert (tmp_path / "run" / "result.json").exists()
    assert shell(f"$K losses show no_such_loss {lost}").returncode == 1
    assert shell(f"$K no-such-command {lost}").returncode == 2


def test_without_any_stream_files_are_written_whole(tmp_path: Path) -> None:
    done = shell("$K train digits --set epochs=1 --output run <&- >&- 2>&-")
    assert done.returncode == 1  # for lack of stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 1
    assert sorted((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize("unbuffered", ["1", in_long("")])
@pytest.mark.parametrize("command", ["losses list", "recipes show digits --json", "--help"])
def test_a_reader_that_goes_ends_the_command_quietly(command: str, unbuffered: str) -> None:
    # The reader is gone before the first line comes.
    done = shell(f"(sleep 0.3; $K {command}) | true", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "d\\xf6g ☃".replace("☃", "\\u2603")), ("cp1252", "dög \\u2603")]
)
def test_what_a_stream_cannot_hold_is_escaped(encoding: str, shown: str) -> None:
    code = "import sys; from kdcam.cli import render, streams\nwith streams.guarded_streams():\n  "
    done = subprocess.run(
        [sys.executable, "-c", code + "render.show_text('dög ☃'); render.show_notice('dög ☃')"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode(encoding).rstrip() == shown
    assert done.stderr.decode(encoding).rstrip() == shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("name", ["dög", "Ещё", "a\u2028b\x85c\x9b31m", "\u202eevil", "\udcff", "🐈", "x\ny"])
def test_json_reads_back_as_it_was(encoding: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps([name]))
    code = (
        "import json; from kdcam.cli import render, streams\nnames = json.load(open('names.json'))\n"
        "with streams.guarded_streams():\n  render.show_json(names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    text = done.stdout.decode(encoding)
    assert json.loads(text) == [
        r"\udcff" if name == "\udcff" else name
    ]  # bytes that are no text, as an escape
    assert all(line.isprintable() for line in text.split("\n"))
    assert ("dög" in text) == (name == "dög" and encoding != "ascii")


def test_the_number_of_a_closed_stream_goes_to_no_file() -> None:
    code = (
        "import os; from kdcam.cli.streams import guarded_streams\n"
        "with guarded_streams():\n"
        "  opened = os.open('file', os.O_CREAT | os.O_WRONLY)\n"
        "  assert opened > 2, opened"
    )
    assert shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-').returncode == 0


def test_names_cannot_forge_a_line(kdcam, photo_recipe: Path, tmp_path: Path) -> None:
    names = {"cat": "x\nkdcam: error: all is lost", "dog": "\u202e[red]:dog:\x1b[31m\x85\u2028"}
    for old, new in names.items():
        (tmp_path / "photos" / old).rename(tmp_path / "photos" / new)
    done = kdcam("train", photo_recipe, "--output", "run")
    assert done.code == 0, done.err
    found = kdcam("evaluate", "run")
    assert found.code == 0, found.err
    pages = [found.out, done.out, done.err, kdcam("predict", "run", "photos/" + names["cat"]).out]
    pages.append(kdcam("evaluate", "run", "--json").out)
    pages.append(kdcam("train", photo_recipe, "--dry-run", "--set", f"description={names['dog']!r}").out)
    for page in pages:
        lines = page.split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.lstrip().startswith("kdcam: error") for line in lines)
    assert "x\\nkdcam: error: all is lost" in found.out
    assert "\\u202e[red]:dog:\\x1b[31m\\x85\\u2028" in found.out
    assert json.loads(pages[-2])["label_names"] == sorted(names.values())


def test_what_is_wrong_with_a_command_line_is_shown_as_any_screen_shows_it() -> None:
    done = shell("$K train digits $'--x\\u202e\\u2028\\nkdcam: \\x1b[31m'", LC_ALL="C.UTF-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr
    assert "Error: No such option: --x\\u202e\\u2028" in done.stderr
    assert not any(line.startswith("kdcam:") for line in done.stderr.split("\n"))
