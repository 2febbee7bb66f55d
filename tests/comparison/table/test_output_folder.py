import json
import threading
from pathlib import Path

import pytest
from made_up_runs import measures

from kdcam.comparison.plan.comparison_plan import plan_comparison
from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.output_folder import check_output, prepare_output, run_folder, write_comparison
from kdcam.comparison.table.text_formats import Comparison
from kdcam.errors import CheckpointError
from kdcam.files.folder_lock import FolderLock


@pytest.fixture
def comparison() -> Comparison:
    return build_comparison(plan_comparison(["digits"], seeds=(0,)), {}, {"digits-0": "no data"})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    prepare_output(tmp_path / "out")
    return tmp_path / "out"


def test_run_folders_are_kept_out_of_a_repository(output: Path) -> None:
    assert (output / "runs" / ".gitignore").read_text() == "*\n"
    assert run_folder(output, "digits-0").parent == output / "runs"
    (output / "runs" / ".gitignore").write_text("mine\n")
    prepare_output(output)
    assert (output / "runs" / ".gitignore").read_text() == "mine\n"


def test_tables_are_written_and_what_is_out_of_date_is_removed(output: Path, comparison: Comparison) -> None:
    (output / "curves.png").write_bytes(b"of runs with a validation part")
    (output / ".comparison.md.aside-1234").write_text("left by a killed one")
    write_comparison(output, comparison)
    assert {path.name for path in output.iterdir()} == {
        "comparison.csv",
        "comparison.json",
        "comparison.md",
        "runs",
    }
    assert json.loads((output / "comparison.json").read_text()) == comparison.to_json()
    assert (output / "comparison.md").read_text() == comparison.to_markdown()
    assert (output / "comparison.csv").read_text() == comparison.to_csv()


def test_another_comparison_that_writes_is_waited_for(output: Path, comparison: Comparison) -> None:
    lock = FolderLock(output / "runs")
    writer = threading.Thread(target=write_comparison, args=(output, comparison))
    writer.start()
    writer.join(0.3)
    assert writer.is_alive()
    assert not (output / "comparison.md").exists()
    lock.release()
    writer.join(10)
    assert (output / "comparison.md").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/out/runs: the folder cannot be made"):
        prepare_output(tmp_path / "file" / "out")


def test_a_table_of_other_rows_is_kept(output: Path, comparison: Comparison) -> None:
    assert write_comparison(output, comparison) == ()
    before = (output / "comparison.md").read_bytes()
    other = build_comparison(plan_comparison(["digits"], grid=["epochs=1"], seeds=(0,)), {}, {})
    assert write_comparison(output, other) == ("digits",)
    assert (output / "comparison-previous.md").read_bytes() == before
    assert json.loads((output / "comparison-previous.json").read_text()) == comparison.to_json()
    assert (output / "comparison-previous.csv").read_text() == comparison.to_csv()
    assert (output / "comparison.md").read_text() == other.to_markdown()
    wider = build_comparison(plan_comparison(["digits"], grid=["epochs=1,2"], seeds=(0,)), {}, {})
    assert write_comparison(output, wider) == ()


def test_a_table_of_finished_seeds_is_kept(output: Path) -> None:
    def of_seeds(*seeds: int) -> Comparison:
        runs = {f"digits-{seed}": measures(0.5) for seed in seeds}
        return build_comparison(plan_comparison(["digits"], seeds=(0, 1, 2)), runs, {})

    write_comparison(output, of_seeds(0, 1, 2))
    before = (output / "comparison.csv").read_bytes()
    assert write_comparison(output, of_seeds(1)) == ("digits with seeds 0 2",)
    assert (output / "comparison-previous.csv").read_bytes() == before
    assert write_comparison(output, of_seeds(1, 2)) == ()
    assert write_comparison(output, of_seeds(), keeps_previous=False) == ()
    assert (output / "comparison-previous.csv").read_bytes() == before


def test_a_folder_that_cannot_be_a_comparisons_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"--output .*run: is the folder of a run"):
        check_output(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file is no folder that may be written to"):
        check_output(tmp_path / "file" / "out")
    check_output(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()
