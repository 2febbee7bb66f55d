# ruff: noqa: E501  # a quote is easier to find in its file on one line
"""Figures that README and docs/results quote are worked out from the JSON beside them.

A quote is a text whose figures are filled in from the JSON; it must stand in the file, so that a changed figure fails
in either. Line breaks and marks of emphasis do not count.
"""

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
Scores = Mapping[str, Sequence[float]]


@cache
def stored(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


@cache
def text_of(file: str) -> str:
    place = ROOT / file if file == "README.md" else RESULTS / file
    return place.read_text()


def plain(text: str) -> str:
    return " ".join(re.sub(r"[*`]", "", text).split())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def lines_of(file: str) -> list[str]:
    return text_of(file).splitlines()


def missing(lines: Sequence[str], file: str) -> list[str]:
    found = lines_of(file)
    return [line for line in lines if line not in found]


def data_rows(file: str) -> int:
    """Return how many lines of tables a file has, headings and rules included."""
    return sum(line.startswith("|") for line in lines_of(file))


# Tables


def test_the_tables_of_losses(script: Callable[[str], Any]) -> None:
    report = script("losses_report")
    tables = [report.table(problem["rows"]) for problem in stored("losses")["problems"].values()]
    tried = [
        line for problem in stored("losses")["problems"].values() for line in report.tried(problem["rows"])
    ]
    assert missing([*chain(*tables), *tried], "losses.md") == []
    assert data_rows("losses.md") == sum(map(len, tables))


def test_the_tables_of_cc_table(script: Callable[[str], Any]) -> None:
    report, losses = script("cc_report"), script("losses_report")
    problems = stored("cc-table")["problems"].values()
    tables = [report.table(problem["rows"], problem["published"]) for problem in problems]
    tried = [line for problem in problems for line in losses.tried(problem["rows"])]
    assert missing([*chain(*tables), *tried], "cc-table.md") == []
    assert data_rows("cc-table.md") == sum(map(len, tables))


def test_the_tables_of_transfer(script: Callable[[str], Any]) -> None:
    tables = [script("transfer_report").table(one["rows"]) for one in stored("transfer")["problems"].values()]
    assert missing(list(chain(*tables)), "transfer.md") == []
    assert data_rows("transfer.md") == sum(map(len, tables))


def test_the_tables_of_robustness(script: Callable[[str], Any]) -> None:
    report, found = script("robustness_report"), stored("robustness")["rows"]
    tables = [
        report.table(found["teacher"], report.UNDER_ATTACK, "cross_entropy"),
        report.table(found["student"], report.UNDER_ATTACK, "alone"),
        report.table(found["noise"], report.WITH_NOISE, next(iter(found["noise"]))),
        report._corruptions(found["teacher"]),
    ]
    assert missing(list(chain(*tables)), "robustness.md") == []
    assert data_rows("robustness.md") == sum(map(len, tables))


def test_the_tables_of_the_quickstart(script: Callable[[str], Any]) -> None:
    made = script("quickstart_table").markdown(stored("quickstart")["rows"], "", "", "")
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert len(rows) == 7
    assert missing(rows, "quickstart.md") == []
    assert missing(rows, "README.md") == []


def test_readmes_table_of_the_five_papers_losses(script: Callable[[str], Any]) -> None:
    rows = script("losses_report").table(stored("losses")["problems"]["digit scenes"]["rows"])
    cells = [[one.strip() for one in row.split("|")[1:-1]] for row in rows[2:]]
    assert len(cells) == 8
    wanted = ["| " + " | ".join([*row[:4], *row[-2:]]) + " |" for row in cells]
    assert missing(wanted, "README.md") == []


def test_the_tables_of_distillation(script: Callable[[str], Any]) -> None:
    study = [
        line for line in script("distillation_report")._study(stored("map-matching")) if line.startswith("|")
    ]
    assert missing(study, "distillation.md") == []
    rows = [methods_row(row) for row in stored("distillation")["rows"]]
    assert missing(rows, "distillation.md") == []
    assert data_rows("distillation.md") == len(study) + 2 + len(rows)


def methods_row(row: Mapping[str, Any]) -> str:
    def spread(key: str, digits: int, scale: float = 1) -> str:
        return f"{scale * row[key]['mean']:.{digits}f} ± {scale * row[key]['sd']:.{digits}f}"

    apart = row["difference"]
    difference = ""
    if apart is not None:
        low, high = 100 * apart["low"], 100 * apart["high"]
        difference = f"{100 * apart['mean']:+.2f} [{low:+.2f}, {high:+.2f}] (n = {apart['pairs']})"
    cells = [
        row["name"],
        str(len(row["seeds"])),
        *(spread(key, 2, 100) for key in ("test_selected", "test_last", "validation_selected")),
        difference,
        spread("agreement", 2, 100),
        *(spread(key, 3) for key in ("kl", "cam_similarity", "caam_cam_similarity")),
        f"{row['epochs_to_base']['mean']:.1f}",
        f"{row['images_per_second']['mean']:.0f}",
        f"{row['parameters']:,}",
    ]
    return "| " + " | ".join(cells) + " |"


def test_the_tables_of_distillation_speed() -> None:
    found = stored("distillation-speed")
    rows = [
        f"| {name} | {job['milliseconds_a_step']:.1f} | {job['images_per_second']:.0f} |"
        for name, job in found["jobs"].items()
    ]
    for name, one in found["ratios"].items():
        low, high = one["interval_95"]
        reached = "yes" if one["reached"] else "no"
        rows.append(f"| {name} | {one['ratio']:.2f} [{low:.2f}, {high:.2f}] | {one['goal']} | {reached} |")
    assert missing(rows, "distillation-speed.md") == []
    assert data_rows("distillation-speed.md") == len(rows) + 4


@pytest.mark.parametrize("name", ["losses", "cc-table", "transfer"])
def test_the_remark_on_many_comparisons(name: str, script: Callable[[str], Any]) -> None:
    report = script("transfer_report" if name == "transfer" else "losses_report")
    found = report.differences(stored(name)["problems"])
    assert script("many_comparisons").remark(found) in lines_of(f"{name}.md")


@pytest.mark.parametrize(
    ("name", "remarks"),
    [
        ("losses", "losses"),
        ("cc-table", "cc"),
        ("transfer", "transfer"),
        ("robustness", "robustness"),
        ("distillation", "distillation"),
    ],
)
def test_reports_hold_the_remarks_that_stand_beside_their_script(name: str, remarks: str) -> None:
    assert (ROOT / f"benchmarks/{remarks}_remarks.md").read_text().strip() in text_of(f"{name}.md")


def test_p_values_and_holms_correction(script: Callable[[str], Any]) -> None:
    tests = script("many_comparisons")
    # scipy.stats.ttest_1samp([1, 2, 3], 0): t = 3.4641, p = 0.07418
    assert tests.p_value([1, 2, 3]) == pytest.approx(0.0741799, abs=1e-6)
    assert tests.p_value([1, -1, 0]) == 1
    assert tests.p_value([2, 2, 2]) == 0
    assert tests.left_by_holm({"a": 0.01, "b": 0.04, "c": 0.02}) == ["a", "c", "b"]
    assert tests.left_by_holm({"a": 0.01, "b": 0.06, "c": 0.03}) == ["a"]
    assert tests.left_by_holm({"a": 0.02}) == ["a"]


# Sentences


@cache
def scored(name: str, problem: str) -> Scores:
    """Return the test scores in per cent of each loss, seed by seed."""
    rows = stored(name)["problems"][problem]["rows"]
    return {row["method"]: [100 * one["test_score"] for one in row["seeds"]] for row in rows}


@cache
def pointing(key: str) -> Scores:
    rows = stored("losses")["problems"]["digit scenes"]["rows"]
    return {row["method"]: [100 * one[key] for one in row["seeds"]] for row in rows}


def over(scores: Scores, one: str, other: str) -> float:
    return mean(scores[one]) - mean(scores[other])


def pairs_won() -> list[tuple[int, int]]:
    """Return, for losses and cc-table, in how many pairs channel_correlation beats the block alone, and of how many."""
    counts = []
    for name in ("losses", "cc-table"):
        won = total = 0
        for problem in stored(name)["problems"]:
            scores = scored(name, problem)
            if "channel_correlation" in scores:
                pairs = zip(scores["channel_correlation"], scores["attention block alone"], strict=True)
                signs = [a > b for a, b in pairs]
                won, total = won + sum(signs), total + len(signs)
        counts.append((won, total))
    return counts


def moved(problem: str, row: str, column: str, base: str = "cross_entropy") -> float:
    """Return how much a row of transfer.json is above its base, in points."""
    rows = stored("transfer")["problems"][problem]["rows"]
    of = (lambda one: one["test"]) if column == "test" else (lambda one: found_in(one)[column])
    return 100 * (mean(map(of, rows[row])) - mean(map(of, rows[base])))


def found_in(one: Mapping[str, Any]) -> dict[str, float]:
    return {**one.get("few_shot", {}), **one.get("localization", {})}


def transfers(loss: str) -> list[float]:
    """Return the differences to cross-entropy of the same tuning on CIFAR-10, smallest loss first."""
    tunings = {row.partition(":")[0] for row in stored("transfer")["problems"]["cifar10"]["rows"]}
    found = [
        moved("cifar10", f"{one}: {loss}", "test", f"{one}: cross_entropy")
        for one in tunings
        if has(one, loss)
    ]
    return sorted(found, reverse=True)


def above_scratch() -> list[float]:
    """Return how far the other rows of CIFAR-10 are above training from scratch, the least first."""
    rows = stored("transfer")["problems"]["cifar10"]["rows"]
    tunings = [row.partition(":")[0] for row in rows if row.endswith(": from scratch")]
    return sorted(
        moved("cifar10", row, "test", f"{one}: from scratch")
        for one in tunings
        for row in rows
        if row.startswith(f"{one}:") and not row.endswith("from scratch")
    )


def has(tuning: str, loss: str) -> bool:
    return f"{tuning}: {loss}" in stored("transfer")["problems"]["cifar10"]["rows"]


def shots(problem: str, loss: str, shot: int) -> list[float]:
    names = found_in(stored("transfer")["problems"][problem]["rows"]["cross_entropy"][0])
    return sorted(moved(problem, loss, name) for name in names if f"-way {shot}-shot" in name)


def standard(kind: str, row: str, attack: str = "standard") -> list[float]:
    return [100 * one["attacks"][attack] for one in stored("robustness")["rows"][kind][row]]


def whole(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def noise_gain(row: str, rate: int) -> float:
    rows = stored("robustness")["rows"]["noise"]
    clean = [mean(one["clean"] for one in rows[f"{name}, {rate}% wrong"]) for name in (row, "cross_entropy")]
    return 100 * (clean[0] - clean[1])


def robust_mean(row: str, key: str) -> float:
    return 100 * mean(one[key] for one in stored("robustness")["rows"]["teacher"][row])


def distilled(name: str) -> Mapping[str, Any]:
    (row,) = (row for row in stored("distillation")["rows"] if row["name"] == name)
    return row


def reached(name: str) -> list[int]:
    """Return after how many epochs each seed has the base's last validation score."""
    level = stored("distillation")["level"]
    curves = distilled(name)["curves"].values()
    return [next(epoch for epoch, score in enumerate(curve, start=1) if score >= level) for curve in curves]


def epochs_to_level(name: str) -> str:
    *first, last = reached(name)
    return f"{', '.join(map(str, first))} and {last}"


def at_a_third(name: str) -> list[float]:
    """Return each seed's validation accuracy after 7 of 20 epochs, in per cent."""
    return [100 * curve[6] for curve in distilled(name)["curves"].values()]


def ahead(name: str, base: str) -> str:
    found = [a - b for a, b in zip(at_a_third(name), at_a_third(base), strict=True)]
    return f"{mean(found):.1f} points ahead ({', '.join(f'{one:.1f}' for one in found)})"


def selected(name: str) -> float:
    return 100 * distilled(name)["test_selected"]["mean"]


def matched(name: str) -> float:
    return 100 * stored("map-matching")["variants"][name]["test"]["acc1"]


def slowdown(case: int, variants: Sequence[str] | None = None) -> list[float]:
    """Return by how many per cent losses make a training step slower."""
    found = stored("loss-cost")["cases"][case]["variants"]
    chosen = [one for one in found if "ratio" in found[one]] if variants is None else variants
    return sorted(100 * (found[name]["ratio"] - 1) for name in chosen)


def faster(attack: str, other: str) -> Mapping[str, Any]:
    (found,) = (one for one in stored("attack-speed")["attacks"] if one["attack"] == attack)
    return found["jobs"][other]


def seconds(what: str) -> float:
    return stored("startup")["median_seconds"][what]


SCENES = ("losses", "digit scenes")
MNIST = ("losses", "MNIST, 6,000 images")
MAMMALS = ("losses", "13 mammals")
MANY = ("losses", "tiny-imagenet32-100")
SEVERAL = ("losses", "digit scenes of several digits")
CC_6000, CC_1000 = ("cc-table", "MNIST, 6,000 images"), ("cc-table", "MNIST, 1,000 images")
CC_OTHER = ("cc-table", "MNIST, 6,000 images, the other losses")
CC_NOISE = ("cc-table", "MNIST, 6,000 images, 40 % wrong labels")
GCE, OWN_MAP = "guided_complement_entropy", "kd + label's CAM min-max 10"
BLOCK, CC, CE = "attention block alone", "channel_correlation", "cross_entropy"
WITH_BLOCK = (
    "cam",
    "hnc_mse",
    "hnc_kd",
    "include_exclude",
    f"attention block + {CC}",
    f"attention block + {CC}, class means",
)


def gain(table: tuple[str, str], one: str, other: str | None = None) -> float:
    scores = scored(*table)
    return over(scores, one, other or next(iter(scores)))


QUOTES: tuple[tuple[str, Callable[[], str]], ...] = (
    (
        "losses.md",
        lambda: (
            f"cross-entropy alone varies by {max(scored(*SCENES)[CE]) - min(scored(*SCENES)[CE]):.1f} points"
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"accuracy rose by {gain(SCENES, 'hnc_mse'):.1f} on average, but the label's CAM points worse in every "
            f"seed, by {-over(pointing('pointing_cam'), 'hnc_mse', CE):.0f} points (hnc_mse) and "
            f"{-over(pointing('pointing_cam'), 'hnc_kd', CE):.0f} (hnc_kd)"
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"its own problem, it gained {gain(MAMMALS, 'hnc_mse'):.1f} and {gain(MAMMALS, 'hnc_kd'):.1f} points"
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"into the box in {mean(pointing('pointing_caam')['mutual_channel']):.0f} % of the scenes in place of "
            f"{mean(pointing('pointing_caam')[CE]):.0f} %"
        ),
    ),
    (
        "losses.md",
        lambda: (
            "in nine of nine pairs of these tables (by "
            + "{:.1f}, {:.1f} and {:.1f} points on average)".format(
                *(gain(one, CC, BLOCK) for one in (SCENES, MNIST, MANY))
            )
        ),
    ),
    (
        "losses.md",
        lambda: (
            "and in {} of {} with those of [cc-table.md](cc-table.md) ({} of {}; by {:.1f} and {:.1f} points)".format(
                *map(sum, zip(*pairs_won(), strict=True)),
                *pairs_won()[1],
                gain(CC_6000, CC, BLOCK),
                gain(CC_1000, CC, BLOCK),
            )
        ),
    ),
    (
        "losses.md",
        lambda: "itself costs {:.1f}, {:.1f} and {:.1f} points against plain".format(
            *(-gain(one, BLOCK) for one in (SCENES, MNIST, MANY))
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"changes little: {gain(SCENES, 'include_exclude'):+.1f} points on scenes, with a much smaller spread over "
            f"seeds ({stdev(scored(*SCENES)['include_exclude']):.1f} in place of {stdev(scored(*SCENES)[CE]):.1f})"
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"({gain(SEVERAL, 'hnc_mse'):+.1f} and {gain(SEVERAL, 'hnc_kd'):+.1f} points of mean average precision"
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"cam ({gain(SEVERAL, 'cam'):+.1f}) and sigmoid_focal ({gain(SEVERAL, 'sigmoid_focal'):+.1f}) change nothing"
        ),
    ),
    (
        "losses.md",
        lambda: (
            f"{-moved('tiny', 'cam', 'test'):.1f} points of 64 classes of Tiny-ImageNet, in each of three seeds, and "
            f"{-transfers('cam')[0]:.1f} to {-transfers('cam')[-1]:.1f} points in a linear probe or fine-tuning on CIFAR-10"
        ),
    ),
    (
        "cc-table.md",
        lambda: (
            f"gain on both sizes ({gain(CC_6000, 'asoftmax'):+.1f} and {gain(CC_6000, 'mutual_channel'):+.1f} points with "
            f"6,000 images, {gain(CC_1000, 'asoftmax'):+.1f} and {gain(CC_1000, 'mutual_channel'):+.1f} with 1,000"
        ),
    ),
    (
        "cc-table.md",
        lambda: (
            f"the spread ({gain(CC_6000, CC):+.1f}, {gain(CC_1000, CC):+.1f}), and little over its control, the block "
            f"alone ({gain(CC_6000, CC, BLOCK):+.1f}, {gain(CC_1000, CC, BLOCK):+.1f}; {pairs_won()[1][0]} of "
            f"{pairs_won()[1][1]} pairs). The block itself costs {-gain(CC_1000, BLOCK):.1f} to {-gain(CC_6000, BLOCK):.1f}"
        ),
    ),
    (
        "cc-table.md",
        lambda: (
            f"FICAL loses {-gain(CC_6000, 'fical'):.1f} and {-gain(CC_1000, 'fical'):.1f}, focal loss "
            f"{abs(gain(CC_6000, 'focal')):.1f} and {-gain(CC_1000, 'focal'):.1f}"
        ),
    ),
    (
        "cc-table.md",
        lambda: "complement entropy lose {:.1f} and {:.1f} with right labels".format(
            *(-gain(CC_OTHER, one) for one in ("generalized_cross_entropy", "guided_complement_entropy"))
        ),
    ),
    (
        "cc-table.md",
        lambda: (
            f"generalised cross-entropy ({gain(CC_NOISE, 'generalized_cross_entropy'):+.1f}) and its truncated form "
            f"({gain(CC_NOISE, 'truncated_generalized_cross_entropy'):+.1f}) gain"
        ),
    ),
    (
        "transfer.md",
        lambda: (
            f"CAM-loss gains {moved('scenes', 'cam', 'pointing'):.1f} points of pointing and "
            f"{moved('scenes', 'cam', 'energy'):.1f} of energy inside the box in each of three seeds; its boxes (MaxBoxAccV2) "
            f"are no better ({moved('scenes', 'cam', 'max_box_acc_v2'):+.1f})"
        ),
    ),
    (
        "transfer.md",
        lambda: (
            f"it gains {moved('imagenette', 'cam', 'max_box_acc_v2'):.1f} points of MaxBoxAccV2 and "
            f"{moved('imagenette', 'cam', 'energy'):.1f} of energy, in each seed. hnc_mse loses "
            f"{-moved('scenes', 'hnc_mse', 'max_box_acc_v2'):.1f} points of MaxBoxAccV2 and "
            f"{-moved('scenes', 'hnc_mse', 'pointing'):.1f} of pointing on scenes in each seed, hnc_kd "
            f"{-moved('scenes', 'hnc_kd', 'max_box_acc_v2'):.1f} and {-moved('scenes', 'hnc_kd', 'pointing'):.0f}; on Imagenette "
            f"hnc_mse loses {-moved('imagenette', 'hnc_mse', 'max_box_acc_v2'):.1f} points"
        ),
    ),
    (
        "transfer.md",
        lambda: (
            f"from a CAM-loss network are {-transfers('cam')[0]:.1f} to {-transfers('cam')[-1]:.1f} points below those "
            f"from cross-entropy, from hnc_mse {-transfers('hnc_mse')[0]:.1f} to {-transfers('hnc_mse')[-1]:.1f};"
        ),
    ),
    (
        "transfer.md",
        lambda: (
            f"CAM-loss costs {-moved('tiny', 'cam', 'test'):.1f} points of the 64 classes and hnc_mse "
            f"{-moved('tiny', 'hnc_mse', 'test'):.1f}"
        ),
    ),
    (
        "transfer.md",
        lambda: (
            f"On Tiny-ImageNet CAM-loss gains {shots('tiny', 'cam', 1)[0]:.1f} to {shots('tiny', 'cam', 1)[-1]:.1f} points "
            f"of 1-shot accuracy, most with the cosine head, and loses {-shots('tiny', 'cam', 5)[-1]:.1f} to "
            f"{-shots('tiny', 'cam', 5)[0]:.1f} of 5-shot, though its base accuracy is "
            f"{-moved('tiny', 'cam', 'test'):.1f} points lower"
        ),
    ),
    (
        "transfer.md",
        lambda: f"cosine head at 1 shot ({moved('tiny', 'hnc_mse', '5-way 1-shot baseline++'):+.1f})",
    ),
    (
        "transfer.md",
        lambda: (
            "a loss of hnc_mse with baseline++ "
            f"({moved('omniglot', 'hnc_mse', 'Omniglot one-shot error baseline++'):.1f} points of error)"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"under standard at eps 0.1 it leaves {mean(standard('teacher', 'madry')):.0f} % (its student's network "
            f"{mean(standard('student', 'madry, alone')):.0f} %), every other row {others_standard()[0]:.0f} to "
            f"{others_standard()[1]:.0f} % on average"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"(standard {whole(standard('teacher', 'hnc_mse'))} against {whole(standard('teacher', CE))} %), and so is "
            f"CAM-loss ({whole(standard('teacher', 'cam'))})"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"still under pgd-20 with one seed ({max(standard('teacher', GCE, 'pgd-20')):.0f} %), and is no better than "
            f"cross-entropy under the strong attacks ({whole(standard('teacher', GCE))} %)"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"It also costs {robust_mean(CE, 'clean') - robust_mean(GCE, 'clean'):.1f} points and calibration (ECE "
            f"{robust_mean(GCE, 'ece'):.1f} % against {robust_mean(CE, 'ece'):.1f} %)"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"(standard {mean(standard('student', 'cross_entropy -> caam_cam')):.0f} against "
            f"{mean(standard('student', 'cross_entropy -> kd')):.0f} % under a cross-entropy teacher, "
            f"{mean(standard('student', 'hnc_mse -> caam_cam')):.0f} against {mean(standard('student', 'hnc_mse -> kd')):.0f} "
            "under hnc_mse)"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"corruptions too ({robust_mean('madry', 'corrupted'):.0f} against {robust_mean(CE, 'corrupted'):.0f} %)"
        ),
    ),
    (
        "robustness.md",
        lambda: (
            f"CAM-loss gains {noise_gain('cam', 20):.1f} points over cross-entropy at 20 % and "
            f"{noise_gain('cam', 40):.1f} at 40 % wrong labels"
        ),
    ),
    (
        "robustness.md",
        lambda: "hnc_mse gains {:.1f}, {:.1f} and {:.1f} points at 20, 40 and 60 %".format(
            *(noise_gain("hnc_mse", rate) for rate in (20, 40, 60))
        ),
    ),
    (
        "distillation.md",
        lambda: (
            "kd gains {:.1f} points over the student alone, dkd {:.1f}, kd + caam_cam {:.1f}, in 3 of 3 seeds each. "
            "caam_cam without kd gains {:.1f} (".format(
                *(
                    100 * distilled(name)["difference"]["mean"]
                    for name in ("kd", "dkd", "kd_caam_cam", "caam_cam")
                )
            )
        ),
    ),
    (
        "transfer.md",
        lambda: (
            f"far above training from scratch (by {above_scratch()[0]:.0f} to {above_scratch()[-1]:.0f} points)"
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"after {epochs_to_level('caam_cam')} epochs, the base itself after {epochs_to_level('distillation_small')}; at a "
            f"third of the run it is {ahead('caam_cam', 'distillation_small')}. kd is far faster "
            f"({', '.join(map(str, reached('kd')))}), kd + caam_cam no faster than that in the end "
            f"({', '.join(map(str, reached('kd_caam_cam')))}) but ahead at a third of the run "
            f"({mean(at_a_third('kd_caam_cam')):.1f} against {mean(at_a_third('kd')):.1f} %)"
        ),
    ),
    (
        "distillation.md",
        lambda: f"last score after {reached('cam_kd')[0]} epochs in each seed",
    ),
    (
        "distillation.md",
        lambda: f"caam_cam beside kd adds {selected('kd_caam_cam') - selected('kd'):.1f} points to kd",
    ),
    (
        "distillation.md",
        lambda: (
            "the CAM's correlation with the teacher's rises from {:.2f} to {:.2f}, the CAAM's from {:.2f} to {:.2f}".format(
                *(
                    distilled(name)[key]["mean"]
                    for key in ("cam_similarity", "caam_cam_similarity")
                    for name in ("kd", "kd_caam_cam")
                )
            )
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"not its weight (3 or 10: {matched('kd + caam_cam 3'):.1f}, {matched('kd + caam_cam 10'):.1f}; kd alone with "
            f"more weight reaches {matched('kd, weight 2.7'):.1f}), not its start (first half "
            f"{matched('kd + caam_cam 10, first half'):.1f}, second half {matched('kd + caam_cam 10, second half'):.1f}), not the "
            f"normalisation (standardised {matched('kd + caam standardised 1'):.1f}), not a coarser map (pooled to 2 x 2 it "
            f"costs: {matched('kd + caam_cam 10, 2 x 2'):.1f};"
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"the label's own map on both sides ({matched(OWN_MAP):.1f}). "
            f"What helps is to match the maps of all classes (standardised {matched('kd + all CAMs standardised 1'):.1f}, of the "
            f"likely classes {matched('kd + likely CAMs standardised 1'):.1f}, centred and without normalising their height "
            f"{matched('kd + all CAMs centred 1'):.1f})"
        ),
    ),
    (
        "distillation.md",
        lambda: "in cells gives {:.1f} to {:.1f} whatever the grid, in three grids together {:.1f}".format(
            min(cells := [matched(f"kd + kd in cells, {side} x {side}") for side in (2, 4, 8)]),
            max(cells),
            matched("kd in cells, 1 + 2 + 4"),
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"{100 * distilled('cam_kd')['difference']['mean']:+.1f} points over the student alone and "
            f"{selected('cam_kd') - selected('kd'):+.1f} over kd"
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"the highest agreement with the teacher ({100 * distilled('cam_kd')['agreement']['mean']:.0f} %)"
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"does as well ({matched('scale decoupled, 1 + 2 + 4'):.1f} against {matched('kd in cells, 1 + 2 + 4'):.1f})"
        ),
    ),
    (
        "distillation.md",
        lambda: (
            f"kd reached {matched('kd, weight 2.7'):.1f} % there (weight 2.7, one seed, n = 1) against {matched('kd'):.1f} "
            f"at the published weight and {matched('kd in cells, 1 + 2 + 4'):.1f} of cam_kd, so that "
            f"{matched('kd in cells, 1 + 2 + 4') - matched('kd, weight 2.7'):.1f} of cam_kd's "
            f"{matched('kd in cells, 1 + 2 + 4') - matched('kd'):.1f} points over kd"
        ),
    ),
    (
        "README.md",
        lambda: (
            f"cost {-moved('tiny', 'cam', 'test'):.1f} points on 64 classes of Tiny-ImageNet and "
            f"{-transfers('cam')[0]:.1f} to {-transfers('cam')[-1]:.1f} in transfer from there"
        ),
    ),
    (
        "README.md",
        lambda: "alone, in {} of {} pairs".format(*map(sum, zip(*pairs_won(), strict=True))),
    ),
    (
        "README.md",
        lambda: (
            f"with its block add {slowdown(0, WITH_BLOCK)[0]:.1f} to {slowdown(0, WITH_BLOCK)[-1]:.1f} %, mutual_channel "
            f"with 200 feature channels {slowdown(2)[0]:.0f} %"
        ),
    ),
    (
        "README.md",
        lambda: (
            f"with and the heads {rounded_up(slowdown(1)[-1])} % or less; on resnet18 at 224 pixels each adds "
            f"{slowdown(3)[-1]:.1f} % or less"
        ),
    ),
    (
        "README.md",
        lambda: (
            f"kdcam --help takes {seconds('kdcam --help'):.1f} s, and kdcam train digits is at its first step in "
            f"{first_step():.1f} s, less than import timm alone takes ({seconds('import timm'):.1f} s)"
        ),
    ),
    (
        "README.md",
        lambda: (
            "Beside torchattacks fgsm takes {:.1f} % longer ({:.2f} times as fast [{:.2f}, {:.2f}]".format(
                100 * (1 / faster("fgsm", "torchattacks")["ratio"] - 1),
                faster("fgsm", "torchattacks")["ratio"],
                *faster("fgsm", "torchattacks")["interval_95"],
            )
        ),
    ),
    (
        "README.md",
        lambda: (
            f"pgd-10 is {faster('pgd-10', 'torchattacks')['ratio']:.2f} times and pgd-50 with 5 restarts "
            f"{faster('pgd-50x5', 'torchattacks')['ratio']:.1f} times as fast "
            f"({faster('pgd-50x5', 'torchattacks, MultiAttack')['ratio']:.1f} beside its MultiAttack)"
        ),
    ),
)


def others_standard() -> tuple[float, float]:
    """Return the least and the largest mean under `standard` of rows without adversarial images."""
    found = [
        mean(standard(kind, row))
        for kind in ("teacher", "student")
        for row in stored("robustness")["rows"][kind]
        if row not in ("madry", "madry, alone", "madry -> ard")
    ]
    return min(found), max(found)


def rounded_up(value: float) -> str:
    return f"{int(value * 10 + 1) / 10:.1f}"


def first_step() -> float:
    return seconds("first step, kdcam: network and torch's SGD")


@pytest.mark.parametrize("quote", QUOTES, ids=[f"{file}-{number}" for number, (file, _) in enumerate(QUOTES)])
def test_sentences_say_what_the_json_says(quote: tuple[str, Callable[[], str]]) -> None:
    file, words = quote
    assert plain(words()) in plain(text_of(file))


def test_ten_thousand_episodes_of_prototypes_take_half_a_second() -> None:
    slowest = max(one["kdcam_seconds"] for one in stored("few-shot-speed")["prototype"])
    assert 0.45 < slowest < 0.55
    assert "of nearest prototypes take half a second" in text_of("README.md")


def test_an_epoch_from_the_cache_costs_what_the_student_alone_does() -> None:
    ratio = stored("distillation-speed")["ratios"]["cached / alone"]
    assert ratio["interval_95"][0] < 1 < ratio["interval_95"][1]
    assert "a distillation epoch costs what an epoch of the student alone does" in plain(text_of("README.md"))


def test_what_readme_says_of_the_quickstart_seed_by_seed() -> None:
    rows = stored("quickstart")["rows"]

    def apart(one: str, other: str, key: str) -> str:
        pairs = zip(rows[one], rows[other], strict=True)
        return "/".join(f"{100 * (a[key] - b[key]):+.1f}" for a, b in pairs)

    readme = plain(text_of("README.md"))
    assert f"(CAM {apart('+ caam_cam', 'student alone', 'pointing_cam')}) and beside kd" in readme
    assert (
        f"(CAAM {apart('+ kd + caam_cam', '+ kd', 'pointing_caam')}); beside kd it adds no accuracy" in readme
    )
    assert f"no accuracy ({apart('+ kd + caam_cam', '+ kd', 'test_acc')})" in readme
