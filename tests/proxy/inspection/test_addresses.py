"""Street addresses as each country writes them; a number or a street word alone is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.addresses import addresses

WRITTEN = {
    "United States": "742 Evergreen Terrace",
    "with apartment": "1600 North Oak Avenue, Apt 4B",
    "with state and code": "Portland, OR 97205",
    "range": "12-14 Mill Lane",
    "post box": "P.O. Box 1234",
    "military": "PSC 1234 Box 56 APO AE 09123",
    "military, a ship's": "FPO AP 96604",
    "military, in small letters": "apo, aa 34002-0110",
    "Germany": "Musterstraße 7a",
    "Germany, a bridge": "Lerchenbrücke 7",
    "Finland, in small letters": "rantapuistontie 6",
    "Germany, apart": "Alte Gasse 12",
    "Netherlands": "Keizersgracht 123",
    "Sweden": "Storgatan 5",
    "France": "12 rue de la Paix",
    "Spain": "Calle Mayor, nº 14",
    "Italy": "Via Roma 22",
    "Poland": "ul. Długa 15/3",
    "China": "上海市浦东新区世纪大道100号",
    "Japan": "〒100-0001",
    "United Kingdom": "SW1A 1AA",
}
PLAIN = {
    "place": "She lives in Portland.",
    "street word": "They took to the street at night.",
    "number": "There were 742 of them.",
    "date": "On 12 March 2020 it rained.",
    "sum": "12 times 14 is 168.",
    "military post alone": "Mail to an APO or FPO takes ten days.",
    "way of speaking": "Find a way in 3 steps.",
}


@pytest.mark.parametrize("address", WRITTEN.values(), ids=WRITTEN.keys())
def test_takes_an_address_whole(address: str) -> None:
    text = f"Please send it to {address}. Thanks."
    found = [text[start:end] for _, start, end, _ in addresses(text)]
    assert any(address in one or (one in address and len(one) > len(address) / 2) for one in found)


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN.keys())
def test_stays_quiet_without_number_and_street_word(text: str) -> None:
    assert list(addresses(text)) == []


@given(st.text(max_size=120), st.sampled_from(tuple(WRITTEN.values())))
def test_every_place_is_in_the_text_and_every_score_a_share(before: str, address: str) -> None:
    text = f"{before}\n{address}"
    for entity, start, end, score in addresses(text):
        assert entity == "STREET_ADDRESS"
        assert 0 <= start < end <= len(text)
        assert 0 < score <= 1
