from __future__ import annotations

from model.kafka.abilities import EMBEDDED, LIST_TRANSACTIONS, WRITE_TXN_MARKERS, abilities

PRODUCE, END_TXN = 0, 26


def test_a_broker_that_writes_or_lists_transactions_isolates_them() -> None:
    assert abilities("x", {PRODUCE, END_TXN, WRITE_TXN_MARKERS}).transactions
    assert abilities("x", {PRODUCE, END_TXN, LIST_TRANSACTIONS}).transactions


def test_taking_transactional_requests_alone_isolates_nothing() -> None:
    assert not abilities("x", {PRODUCE, END_TXN}).transactions


def test_the_embedded_broker_is_known_by_its_cluster() -> None:
    found = abilities(EMBEDDED, {PRODUCE, END_TXN})
    assert not any((found.transactions, found.keeps_log, found.keeps_notes, found.static_members))
