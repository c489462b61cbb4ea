"""The matrix covers what it says: every position on every route, and each condition somewhere."""

from __future__ import annotations

from collections import Counter

from proxy.canonical import canonical_bytes, parse_object
from proxy.routes.registry import ROUTES as SERVED
from proxy.selfcheck.cells import ROUTES, Condition, all_cells, one_of_each, probes
from proxy.selfcheck.positions import POSITIONS
from proxy.selfcheck.puts import HEADERS
from proxy.selfcheck.wire import as_recorded
from proxy.types import JSON

CELLS = all_cells()


def test_there_are_many_cells_and_none_twice() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS) >= 400
    assert len({position.name for position in POSITIONS}) == len(POSITIONS)


def test_every_route_that_is_served_is_in_the_matrix() -> None:
    assert {f"{route.path}" for route in SERVED.values()} <= {r.path for r in ROUTES.values()}


def test_a_sample_has_every_position_on_every_route_and_every_condition() -> None:
    sample = one_of_each(CELLS)
    places = {(cell.position.name, cell.route.name) for cell in CELLS}
    assert {(cell.position.name, cell.route.name) for cell in sample} == places
    shapes = {(cell.condition, cell.route.name, cell.stream) for cell in CELLS}
    assert {(cell.condition, cell.route.name, cell.stream) for cell in sample} == shapes
    assert set(Counter(cell.condition for cell in sample)) == set(Condition)


def test_a_twin_differs_in_the_value_alone_and_every_body_is_strict_json() -> None:
    made = probes(CELLS, 1)
    for probe, twin in zip(made[::2], made[1::2], strict=True):
        bodies = [as_recorded(one, "m").body for one in (probe, twin)]
        if probe.cell.route.is_form:
            sent = [one.body("m") for one in (probe, twin)]
            bodies = [canonical_bytes({**body, HEADERS: None}) for body in sent]
        assert [canonical_bytes(parse_object(body)) for body in bodies] == bodies
        assert _shape(parse_object(bodies[0])) == _shape(parse_object(bodies[1]))
        assert probe.plant.bare.encode() not in bodies[1]
        for one, body in zip((probe, twin), bodies, strict=True):
            assert one.marker.encode() in body


def _shape(value: JSON) -> object:
    """What a body is but for its texts; a row of numbers is one, however long."""
    if isinstance(value, dict):
        return [_shape(member) for member in value.values()]
    if isinstance(value, list):
        parts = [_shape(member) for member in value]
        return "row" if parts and set(map(str, parts)) == {"int"} else parts
    return type(value).__name__
