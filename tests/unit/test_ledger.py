"""The outbox keeps the headers of a record as they are."""

from hypothesis import given
from hypothesis import strategies as st

from chassis.ledger import dump_headers, load_headers

NAMES = st.from_regex(r"content-type|ce_[a-z0-9]+", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).map(str.encode)


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1))
def test_headers_come_back_as_they_were(headers: list[tuple[str, bytes]]) -> None:
    assert load_headers(dump_headers(headers)) == headers
