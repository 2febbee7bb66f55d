"""Everything that is known of runs and comparisons as one HTML file that needs nothing but itself."""

from kdcam.report.html_report import write_report

__all__ = ["write_report"]
