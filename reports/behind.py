"""The runs behind a suite's page, one by one: in the static site a row of links to their own pages for each method."""

from __future__ import annotations

from collections.abc import Mapping

from results.suites import SuiteView

from .draw import escape
from .table import cut


def behind(suite: SuiteView, pages: Mapping[str, str]) -> str:
    """HTML: method and data set with a link for each seed; `pages` holds addresses by run, seen from the suite's page.

    Nothing where no run has a page.
    """
    titles = {c.run_dataset or c.name: c.title for c in reversed(suite.columns)}
    cells: dict[tuple[str, str], dict[str, list[str]]] = {}
    for entry in suite.entries:
        if entry.run_id in pages:
            link = f'<a href="{escape(pages[entry.run_id])}">seed {entry.seed}</a>'
            cells.setdefault((entry.method, entry.backbone), {}).setdefault(entry.dataset, []).append(link)
    if not cells:
        return ""
    several = len({backbone for _, backbone in cells}) > 1
    sets = [name for name in titles if any(name in own for own in cells.values())]
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("Method", *(titles[name] for name in sets)))
    rows = "\n".join(_row(method + (f" on {backbone}" if several else ""), [own.get(name, []) for name in sets])
                     for (method, backbone), own in cells.items())
    return f"""<details class="behind"><summary>Every run, told in words on a page of its own</summary>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div></details>"""


def _row(name: str, links: list[list[str]]) -> str:
    found = "".join(f"<td>{' '.join(own)}</td>" for own in links)
    return f'<tr><th scope="row"><code>{escape(cut(name))}</code></th>{found}</tr>'
