"""A few words of HTML. Everything that is not made here is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.report.style import CSS


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int = 1) -> str:
    """A table; the first `text_columns` columns are text, the others numbers."""

    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{'' if k < text_columns else ' class=num'}>{escape(str(value))}</{tag}>"
            for k, value in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', headers)}</tr></thead>" if any(headers) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    kind = "words" if text_columns > 1 else "numbers"
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def figure(svg: str, title: str, caption: str, alt: str, kind: str = "plot") -> str:
    """A drawing with what it shows, for eyes and for screen readers; a ``chart`` scrolls where the screen is narrow."""
    drawing = svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt, quote=True)}"', 1)
    drawing = f'<div class="scroll {kind}">{drawing}</div>'
    return f"<figure>{drawing}<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption></figure>"


def section(key: str, title: str, lead: str, *parts: str) -> str:
    """A section with a heading and a sentence about what is to be seen."""
    return f'<section id="{key}"><h2>{escape(title)}</h2><p class="lead">{escape(lead)}</p>{"".join(parts)}</section>'


def boxed(kind: str, *parts: str) -> str:
    """Parts side by side: ``grid`` (small), ``two`` or ``wide``."""
    return f'<div class="{kind}">{"".join(parts)}</div>'


def panel(*parts: str) -> str:
    """Parts on paper."""
    return f'<div class="panel">{"".join(parts)}</div>'


def cards(items: Sequence[tuple[str, str, str]]) -> str:
    """Key figures: (label, value, remark)."""
    return boxed(
        "cards",
        *(
            f'<div class="card"><span>{escape(label)}</span><b>{escape(value)}</b><span>{escape(remark)}</span></div>'
            for label, value, remark in items
        ),
    )


def details(summary: str, *parts: str) -> str:
    """Parts that open on a click."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(text)}</pre>"


def note(text: str) -> str:
    """A quiet sentence."""
    return f'<p class="note">{escape(text)}</p>'


def page(title: str, header: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """The whole document.

    Parameters
    ----------
    header : HTML under the title.
    sections : (key, name in the menu, HTML); empty ones are left out.
    footer : HTML.
    """
    shown = [s for s in sections if s[2]]
    menu = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in shown)
    body = "".join(html for _, _, html in shown)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f'<header class="top"><div>{header}</div></header><nav aria-label="Sections"><div>{menu}</div></nav>'
        f"<main>{body}</main><footer><div>{footer}</div></footer></body></html>\n"
    )
