"""localization.json as a section: how well the maps of runs find the objects."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcam.blocks.document import (
    Block,
    CellsByHead,
    Note,
    Section,
    Table,
    notes_on_runs,
    share_text,
    side_by_side,
)
from kdcam.evaluation.localization.localization_schema import left_out_text
from kdcam.report.reported_run import ResultFile, outdated_notes, run_pictures


def localization_section(found: Sequence[ResultFile]) -> Section:
    """Return MaxBoxAcc, pointing game and energy, a column a run, and how the boxes were found."""
    rows = side_by_side([_scores(one.content) for one in found])
    captions = {"localization.png": "objects' boxes in blue, those found in green"}
    blocks: list[Block] = [
        *outdated_notes(found),
        Table(("score", *(one.run for one in found)), rows, title="localization"),
        *notes_on_runs([(one.run, _asked(one.content)) for one in found], runs=len(found)),
        *_left_out(found),
        *run_pictures(found, captions, named=len(found) > 1),
    ]
    return Section("Localization", tuple(blocks))


def _scores(content: Mapping[str, Any]) -> CellsByHead:
    headline, largest = content["headline"], content["largest_region"]
    of_class = "" if content["map"] == "caam" else f", {content['map_of']}"
    cells: CellsByHead = {
        ("maps",): f"{content['map']}{of_class}",
        ("images",): f"{content['images']:,}",
        ("MaxBoxAccV2",): share_text(headline["max_box_acc_v2"]),
    }
    for one in content["best_box"]:
        cells[f"at an overlap of {one['overlap']:.0%}",] = f"{one['accuracy']:.2%} (> {one['threshold']:.2f})"
    cells["MaxBoxAcc (V1)",] = f"{share_text(headline['max_box_acc_v1'])} (> {largest['threshold']:.2f})"
    cells["pointing game",] = share_text(headline["pointing"])
    cells["energy inside the box",] = share_text(headline["energy"])
    return cells


def _asked(content: Mapping[str, Any]) -> str:
    return (
        f"Thresholds (> share of the map's maximum): {content['threshold_rule']}; maps at {content['resolution']} "
        f"pixels. Boxes: {content['contour_rule']}."
    )


def _left_out(found: Sequence[ResultFile]) -> Iterator[Note]:
    for one in found:
        text = left_out_text(one.content["left_out"], one.content["flat_maps"])
        if text:
            yield Note(f"{one.run}: {text}.")


__all__ = ["localization_section"]
