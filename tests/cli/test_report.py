import json
import subprocess
import sys
from pathlib import Path

from report_pages import ReportPage

# Loads the entry point as the installed script does, and says which slow packages it imported.
CODE = """
import sys
from importlib.metadata import entry_points
(script,) = entry_points(group="console_scripts", name="kdcam")
main = script.load()
sys.argv = ["kdcam", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
slow = {"torch", "timm", "torchvision", "sklearn", "matplotlib.pyplot"} & set(sys.modules)
assert not slow, slow
"""


def test_the_path_is_printed(kdcam, digits_run: Path, tmp_path: Path) -> None:
    found = kdcam("report", digits_run, "-o", tmp_path / "page.html")
    assert (found.code, found.out, found.err) == (0, f"{tmp_path / 'page.html'}\n", "")
    page = ReportPage(tmp_path / "page.html")
    page.assert_alone()
    assert page.headings[:2] == [digits_run.name, "Scores"]


def test_json(kdcam, digits_run: Path, labels_run: Path) -> None:
    found = kdcam("report", digits_run, labels_run, "--output", "both.html", "--json")
    assert json.loads(found.out) == {"file": "both.html"}
    assert ReportPage(Path("both.html")).row(labels_run.name)


def test_what_is_wrong_is_one_line(kdcam, digits_run: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["none"], "there is no such folder"),
        ([tmp_path], "holds neither a run"),
        ([digits_run, "-o", tmp_path], "is a folder"),
    ):
        found = kdcam("report", *arguments)
        assert (found.code, found.out) == (1, "")
        assert said in found.err
        assert len(found.err.splitlines()) == 1
    assert kdcam("report").code == 2


def test_torch_is_not_needed(digits_run: Path, tmp_path: Path) -> None:
    arguments = ["report", str(digits_run), "-o", str(tmp_path / "page.html")]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
