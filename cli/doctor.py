"""`kdcam doctor`."""

import typer

from kdcam.blocks.document import Table

from . import render
from .options import Json


def doctor(as_json: Json = False) -> None:
    """Check the installation and the machine.

    Versions, torch and torchvision builds, devices, threads, writable folders.

    Exits with 1 when something is wrong.
    """
    from kdcam.doctor import examine  # slow: importlib.metadata

    findings = examine()
    healthy = all(finding.state != "problem" for finding in findings)
    if as_json:
        render.show_json({"healthy": healthy, "findings": [finding._asdict() for finding in findings]})
    else:
        rows = [(finding.name, finding.state, finding.found) for finding in findings]
        render.show_table(Table(("what", "state", "found"), rows, left=3))
        for finding in findings:
            if finding.advice:
                render.show_text(f"{finding.name}: {finding.found}\n  -> {finding.advice}")
    if not healthy:
        raise typer.Exit(1)


__all__ = ["doctor"]
