"""What a reader of a report finds in it; a page that is not well formed raises."""

from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "img", "source", "br", "hr"}


class ReportPage(HTMLParser):
    """A page taken apart: headings, rows of tables, warnings, pictures and everything that names another file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.warnings: list[str] = []
        self.captions: list[str] = []
        self.alts: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self._into: list[str] | None = None
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), tag
        self.tags.add(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("src", "srcset", "href") if name in values]
        if tag == "img":
            self.alts.append(values["alt"])
        if tag == "tr":
            self.rows.append([])
        holders = {"h1": self.headings, "h2": self.headings, "figcaption": self.captions}
        if tag in ("td", "th"):
            self._begin(self.rows[-1])
        elif tag in holders:
            self._begin(holders[tag])
        elif values.get("class") == "warning":
            self._begin(self.warnings)
        if tag not in _VOID:
            self.open.append(tag)

    def _begin(self, texts: list[str]) -> None:
        texts.append("")
        self._into = texts

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag not in ("strong", "line", "svg"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        if self._into is not None:
            self._into[-1] += data

    def row(self, *begins: str) -> list[str]:
        """Return the one row whose first cells are these."""
        (found,) = (row for row in self.rows if row[: len(begins)] == list(begins))
        return found

    def assert_alone(self) -> None:
        """Assert that the page loads nothing and runs nothing."""
        assert not self.tags & {"script", "link", "iframe", "object", "base", "form"}
        assert self.links
        assert all(link.startswith(("#section-", "data:image/png;base64,")) for link in self.links)
        assert "url(" not in self.source
        assert "@import" not in self.source
        assert "default-src 'none'" in self.source
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)
