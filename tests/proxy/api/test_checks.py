"""The header checks by themselves; `test_gate.py` sends the same through a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.checks import check_framing, check_host, check_type
from proxy.errors import RequestError

HOSTS = frozenset({b"localhost", b"[::1]"})


@given(st.binary(max_size=40))
def test_no_host_but_those_on_the_list_passes(host: bytes) -> None:
    name = host.rpartition(b":")[0] if host[-1:].isdigit() and b":" in host else host
    if name.lower() not in HOSTS:
        with pytest.raises(RequestError):
            check_host([(b"host", host)], HOSTS)


@given(st.binary(max_size=40))
def test_no_type_but_json_passes(value: bytes) -> None:
    if not value.lower().startswith(b"application/json"):
        with pytest.raises(RequestError):
            check_type([(b"content-type", value)])


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_a_length_passes_up_to_the_limit(length: int, limit: int) -> None:
    headers = [(b"content-length", b"%d" % length)]
    if length <= limit:
        check_framing(headers, limit)
    else:
        with pytest.raises(RequestError):
            check_framing(headers, limit)


@given(st.binary(max_size=12))
def test_a_length_is_digits(value: bytes) -> None:
    if not (value.isdigit() and value.isascii()):
        with pytest.raises(RequestError):
            check_framing([(b"content-length", value)], 10**15)


@pytest.mark.parametrize("value", [b"gzip", b"chunked, chunked", b"identity", b"", b"chunked "])
def test_only_chunked_is_a_transfer_coding(value: bytes) -> None:
    check_framing([(b"transfer-encoding", b"Chunked")], 10)
    with pytest.raises(RequestError):
        check_framing([(b"transfer-encoding", value)], 10)


def test_both_framings_are_refused() -> None:
    with pytest.raises(RequestError):
        check_framing([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], 10)
