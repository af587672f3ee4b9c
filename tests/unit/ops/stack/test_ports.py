from __future__ import annotations

import socket

import pytest

from ops.errors import PortInUse
from ops.stack import ports


def test_free_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    taken: set[int] = set()
    found = [ports.claim(0, "any", taken) for _ in range(20)]
    assert len(set(found)) == 20
    assert all(port < 32_768 and ports.is_free(port) for port in found)


def test_a_port_that_listens_is_refused_with_its_name_and_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.answers(port)
        with pytest.raises(PortInUse, match=f"Port {port}.*Kafka port.*lsof"):
            ports.claim(port, "Kafka", set())


def test_the_same_port_is_not_given_twice() -> None:
    taken: set[int] = set()
    port = ports.claim(0, "Kafka", taken)
    with pytest.raises(PortInUse):
        ports.claim(port, "Redis", taken)
