"""What papers print of the shelf: the methods that it lacks, and the figure of each that it has for VTAB-1k. No torch.

The names are those of results/published, piece by piece: brackets and what follows a comma are remarks, `A + B` names
two methods, `lora/llama-3.2-3B-rank32` is `lora`. What papers call a lower bound (frozen, zero-shot) is no method.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from methods.catalog import PartInfo, catalog
from results.printed import PrintedRow, PrintedTable, load_published
from results.published import follows
from results.vocabulary import plain

NO_METHOD = {"zs", "zeroshot", "frozen", "pretrained", "baseline"}
SAME = {"ft": "full", "vanillaft": "full", "lntuning": "lntune", "partial1": "partialk", "convpassattn": "convpass"}
IMAGES = ("vtab1k", "fgvc", "fewshot", "imagenet-shift", "domainnet")  # benchmarks begin so
WHOLE = ("vtab1k", "vtab1k-mean-only", "vtab1k-groups")  # tables whose mean is over all of VTAB-1k
OVER = {"mean19": "19 sets", "group3": "3 groups", "mean of 3": "3 groups"}


def pieces(method: str) -> list[str]:
    """The names in a row of a printed table: `AdaptFormer + PACE (100 epochs)` -> AdaptFormer, PACE."""
    bare = re.sub(r"\s*[\[(][^\])]*[\])]", "", method).partition(",")[0]
    bare = re.sub(r"^([\w-]+)/(?=[a-z]).*", r"\1", bare)
    return [p.strip() for p in re.split(r"\+\s*(?=\w)", bare) if p.strip()]


def names_of(part: PartInfo) -> set[str]:
    """What papers may call a part, as `plain` spells it."""
    return {plain(name) for name in (part.name, *part.aliases, str(part.facts.get("title") or part.name))}


def known_as(piece: str, names: set[str]) -> str:
    """The spelling by which a printed name is among `names`, a variant as in `PACE_fast` too; "" where it is not."""
    first = re.split(r"[_ ]", piece)[0]
    tried = (plain(piece), SAME.get(plain(piece), ""), plain(first), SAME.get(plain(first), ""))
    return next((name for name in tried if name in names), "")


def missing(tables: Sequence[PrintedTable] | None = None) -> list[dict[str, str]]:
    """Rows with `name` and `about`, the papers and benchmarks that print it; images first, then by number of tables."""
    shelf = set[str]().union(*map(names_of, catalog().values())) | NO_METHOD
    spelt: dict[str, str] = {}
    where: dict[str, dict[tuple[str, str], None]] = {}
    for table in load_published() if tables is None else tables:
        for piece in (p for row in table.rows for p in pieces(row.method)):
            if not known_as(piece, shelf):
                spelt.setdefault(plain(piece), piece)
                where.setdefault(plain(piece), {})[_title(table), table.benchmark] = None
    on_images = {name for name, seen in where.items() if any(b.startswith(IMAGES) for _, b in seen)}
    order = sorted(where, key=lambda n: (n not in on_images, -len(where[n]), n))
    return [{"name": spelt[n], "about": "; ".join(f"{paper} ({bench})" for paper, bench in where[n])} for n in order]


def vtab_figures() -> list[str]:
    """Lines of a Markdown table: each printed mean over VTAB-1k of a method on the shelf, with what it is a mean of."""
    head = ("method", "row", "mean, %", "over", "trained, M", "backbone", "paper", "protocol, as far as the file tells")
    order = list(catalog())
    found = sorted(_figures(load_published()), key=lambda cells: order.index(cells[0]))
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *map(_linked, found))]


def _figures(tables: Sequence[PrintedTable]) -> Iterator[tuple[str, ...]]:
    names = {p.name: names_of(p) for p in catalog().values()}
    for table in (t for t in tables if t.benchmark in WHOLE):
        for row in table.rows:
            mean = row.printed.get("mean", row.values.get("vtab_mean"))
            named = meant(row.method, names)
            if mean is not None and named and all(named):
                params = f"{row.params_m:g}" if row.params_m is not None else "–"
                yield (named[-1], row.method, f"{mean:g}", _over(table, row), params, table.backbone,
                       f"{_title(table)}, {table.name}", _protocol(table, row))


def meant(method: str, names: dict[str, set[str]] | None = None) -> list[str]:
    """The parts of the shelf that a printed row's name means, one for each piece; "" for a piece that it lacks."""
    known = {p.name: names_of(p) for p in catalog().values()} if names is None else names
    found = [_part(piece, known) for piece in pieces(method)]
    return ["lora_mul_vpt_add", *found[2:]] if found[:2] == ["lora_mul", "vpt_add"] else found  # one adapter here


def _part(piece: str, names: dict[str, set[str]]) -> str:
    """The part of the shelf that a printed name means, the very name before one that it is a variant of; or ""."""
    exact = next((part for part, own in names.items() if plain(piece) in own), "")
    return exact or next((part for part, own in names.items() if known_as(piece, own)), "")


def _over(table: PrintedTable, row: PrintedRow) -> str:
    """What the mean is over: what its cells say, else what the file says."""
    told = next(iter(follows(table, row)), "")
    return OVER[told] if told in OVER else f"{OVER.get(table.mean_convention, 'not told')} (stated)"


def _protocol(table: PrintedTable, row: PrintedRow) -> str:
    own = dict.fromkeys(filter(None, (row.kind, row.note, table.kind, table.suspect, table.notes)))
    return "; ".join(own) or "not told"


def _title(table: PrintedTable) -> str:
    return table.paper.partition(":")[0]


def _linked(cells: tuple[str, ...]) -> tuple[str, ...]:
    name, *rest = (c.replace("|", "\\|").replace("\n", " ") for c in cells)
    return (f"[{name}](#{name})", *rest)
