"""registry/vips.py: addresses that stay."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.registry.errors import ConfigError
from isthmus.registry.vips import DEFAULT_RANGE, Vips


def test_5000_hosts_have_addresses_of_their_own_outside_istios_range() -> None:
    vips = Vips()
    addresses = {vips.address(f"default/host{index}.dubbo") for index in range(5_000)}

    assert len(addresses) == 5_000
    assert None not in addresses
    assert all(ip_address(str(address)) in ip_network(DEFAULT_RANGE) for address in addresses)
    assert not any(ip_address(str(address)) in ip_network("240.240.0.0/16") for address in addresses)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60))))
def test_an_address_stays_until_it_is_released_and_is_never_shared(steps: list[tuple[bool, int]]) -> None:
    vips = Vips("241.1.1.0/27")
    held: dict[str, str] = {}
    for take, number in steps:
        name = f"ns/h{number}"
        if take:
            address = vips.address(name)
            assert held.get(name, address) == address
            if address is not None:
                held[name] = address
        else:
            vips.release(name)
            held.pop(name, None)
        assert len(set(held.values())) == len(held)


def test_a_full_range_gives_none_and_no_other_hosts_address() -> None:
    vips = Vips("241.1.1.0/30")
    addresses = [vips.address(f"ns/h{index}") for index in range(10)]

    assert sorted(address for address in addresses if address) == ["241.1.1.1", "241.1.1.2"]


@pytest.mark.parametrize("cidr", ["fd00::/64", "241.0.0.0/31"])
def test_a_range_without_room_is_a_mistake_of_the_operator(cidr: str) -> None:
    with pytest.raises(ConfigError):
        Vips(cidr)
