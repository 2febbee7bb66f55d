"""What the tables of `kdcam evaluate-robustness` write into their cells."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

from kdcam.evaluation.robustness.gradient_masking_check import MaskingCheck


def test_each_run_has_its_own_limit(module: Callable[[str], ModuleType]) -> None:
    def run(*checks: MaskingCheck) -> SimpleNamespace:
        return SimpleNamespace(run=Path("a"), checks=checks)

    few = MaskingCheck(name="black_box", passed=True, value=0.0, limit=0.05, text="")
    many = MaskingCheck(name="black_box", passed=False, value=0.02, limit=0.01, text="")
    unknown = many.model_copy(update={"value": None, "passed": True})
    table = module("robustness_tables").check_table([run(few), run(many), run(unknown), run()])
    assert table.columns == ("check", "a", "a", "a", "a")
    assert table.rows == [("black_box", "0 (limit 0.05)", "0.02 (limit 0.01) FAILED", "- (limit 0.01)", "-")]
