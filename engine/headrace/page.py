"""One HTML file without scripts and without requests: headings, tables and plots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("matplotlib", "jinja2")

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #22313f; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; margin: .5rem 0 } th { border-bottom: 1px solid #9aa5b1 }
td, th { padding: .2rem .9rem .2rem 0; text-align: right; max-width: 38rem; overflow-wrap: break-word }
td:first-child, th:first-child { text-align: left } .note { color: #5c6b7a } svg { max-width: 100%; height: auto }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<h2>{{ section.heading }}</h2>
{% if section.note %}<p class="note">{{ section.note }}</p>{% endif %}
{% for plot in section.plots %}{{ plot | safe }}{% endfor %}
{% if section.rows %}
<table>
<tr>{% for cell in section.header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in section.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endif %}
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, plots as SVG text, and a table; all but the plots is text and is escaped."""

    heading: str
    note: str = ""
    plots: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def missing() -> list[str]:
    """Packages that pages need and that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the file whole or not at all. OSError when it cannot be written."""
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(TEMPLATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(template.render(title=title, sections=sections), encoding="utf-8", errors="replace")
    os.replace(part, path)


def number(value: object) -> str:
    """A value for a table: four digits of a fraction, all of a whole number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
