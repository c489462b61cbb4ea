"""docs/api.md says what the code does: its routes, who answers them, and what a response takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from proxy.assembly import Proxy
from proxy.routes import responses
from proxy.routes.registry import ROUTES
from proxy.settings import Settings
from tests.harness import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()
ROUTE = re.compile(r"`(GET|POST|DELETE) (/v1/[\w/{}]+)`")


def rows(heading: str) -> list[list[str]]:
    """The rows of the table whose first heading is ``heading``, below it."""
    lines = PAGE.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def codes(cells: Iterable[str]) -> set[str]:
    """What stands in backticks."""
    return {code for cell in cells for code in re.findall(r"`([^`]+)`", cell)}


def test_every_route_that_answers_is_on_the_page_and_no_other(tmp_path: Path) -> None:
    gate = Proxy(Settings(data_dir=tmp_path, policy_file=ROOT / "policies" / "default.yaml")).app
    served = {
        (method, route.path.replace(":path", ""))
        for route in vars(gate)["_app"].routes
        for method in route.methods - {"HEAD"}
        if route.path.startswith("/v1/")
    }
    assert set(ROUTE.findall(PAGE)) == served


def test_the_first_table_says_which_routes_may_leave() -> None:
    told = {
        path: "never" not in abroad
        for named, _, abroad in rows("route")
        for _, path in ROUTE.findall(named)
    }
    assert told == {f"/v1{route.path}": route.abroad is not None for route in ROUTES.values()}


def test_what_every_outgoing_body_says_is_on_the_page() -> None:
    forced = {
        f"{name}: {str(value).lower()}"
        for route in ROUTES.values()
        if route.abroad is not None
        for name, value in route.abroad.forced.items()
    }
    assert forced
    assert forced <= codes(cell for row in rows("route") for cell in row)


def test_the_table_of_parameters_names_what_a_response_takes_and_refuses() -> None:
    table = rows("parameter")
    refused = codes(named for named, told in table if told == "refused by name")
    taken = codes(named for named, told in table if told != "refused by name")
    assert {name.split(":")[0] for name in refused} == set(responses.REFUSED)
    tops = {name.split(".")[0] for name in taken}
    elsewhere = {"store", "previous_response_id"}
    assert tops | elsewhere == {*responses.PARAMETERS, "input"}
    assert all(f"`{name}" in PAGE for name in elsewhere)


def test_the_table_of_parameters_names_every_value_of_a_closed_list() -> None:
    told = {named: codes([told]) for named, told in rows("parameter")}
    assert told["`input`"] == responses.ITEMS | responses.PARTS
    assert told["`text.format`, `text.verbosity`"] == responses.FORMATS
    assert told["`include`, `top_logprobs`"] == responses.INCLUDES
