"""The month's record as one HTML page: no script, nothing fetched, every value escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from audit.charts import COLORS, Chart, columns, lines, to_svg
from audit.month import WAYS, Month, Transfers

#: Whom the report is about and what for; the controller's to say (Art. 30(1)(a) and (b)).
UNSAID: Final = "not on the record: for the controller to add"

#: What the report cannot show, said in it.
LIMITS: Final = (
    "Integrity, not correctness: it counts what detection found. What no detector recognized is "
    "not in it.",
    "It knows what passed through this proxy, and nothing of other ways out.",
    "Categories are of data, not of data subjects; purposes and controller are not on the record.",
    "Times are those of the machine's clock. Records that no checkpoint seals yet are left out.",
)

BASES: Final = {
    "intra_eea": "within the EEA: no transfer to a third country",
    "adequacy": "adequacy decision (Art. 45)",
    "scc": "standard contractual clauses (Art. 46(2)(c))",
    "bcr": "binding corporate rules (Art. 47)",
    "derogation": "derogation (Art. 49)",
}


def month_html(month: Month, said: dict[str, str]) -> str:
    """The page; ``said`` may name ``controller`` and ``purpose``."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("audit").joinpath("month.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        month=month,
        charts={name: Markup(to_svg(chart)) for name, chart in charts(month).items()},  # noqa: S704
        colors=COLORS,
        **wording(month, said),
    )


def charts(month: Month) -> dict[str, Chart]:
    """The report's charts by name."""
    days = [(day[8:], month.days[day]) for day in sorted(month.days)]
    apps = sorted(month.apps.items(), key=lambda kv: (-sum(kv[1].values()), kv[0]))
    return {
        "days": columns("Requests of each day by where they were answered", days),
        "apps": lines("Requests of each application by where they were answered", apps[:12]),
        "categories": lines("Requests in which a category was found", _found(month)),
    }


def wording(month: Month, said: dict[str, str]) -> dict[str, Any]:
    """What both forms of the report say in words."""
    return {
        "controller": said.get("controller") or UNSAID,
        "purpose": said.get("purpose") or UNSAID,
        "ways": WAYS,
        "bases": BASES,
        "limits": LIMITS,
        "cost": cost,
        "again": f"{month.given_again:,} answers were given again under an Idempotency-Key; "
        "nothing left for these.",
        "rows": sorted(month.transfers.items()),
        "sealed": (month.head.time if month.head else "")[:19].replace("T", " "),
        "size": month.head.size if month.head else 0,
        "root": month.head.root.hex() if month.head else "",
    }


def cost(row: Transfers) -> str:
    """What a recipient's answers cost, and of how many attempts that is not known."""
    if row.unpriced == row.attempts:
        return "unknown"
    told = f"${row.cost_usd:,.4f}"
    return f"{told} + {row.unpriced:,} unknown" if row.unpriced else told


def _found(month: Month) -> list[tuple[str, dict[str, int]]]:
    rows = []
    for name in month.categories:
        left = sum(row.found[name] for row in month.transfers.values())
        masked = sum(row.masked[name] for row in month.transfers.values())
        parts = {"stayed": month.stayed[name], "left": left - masked, "masked": masked}
        rows.append((name.replace("_", " "), parts))
    return rows
