"""adapters/servers.py: the servers that an address lists, and what is wrong with it, without a secret in the words."""

from __future__ import annotations

import pytest

from isthmus.adapters.servers import ACL, LOGIN, Servers, service_urls
from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable


@pytest.mark.parametrize(
    ("address", "urls"),
    [
        ("http://a:8761/eureka", ("http://a:8761/eureka",)),
        (
            "http://a:8761/eureka/, https://[2001:db8::1]:8762/e",
            ("http://a:8761/eureka", "https://[2001:db8::1]:8762/e"),
        ),
        ("HTTPS://A/B", ("https://A/B",)),
        ("http://a", ("http://a",)),
    ],
)
def test_an_address_lists_servers(address: str, urls: tuple[str, ...]) -> None:
    assert service_urls(address, LOGIN) == urls


def test_servers_without_paths() -> None:
    assert service_urls("http://a:2379,Https://b:2379/", LOGIN, paths=False) == ("http://a:2379", "https://b:2379")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("", "server 1 is no `http://host:port/path` or"),
        ("a:8761", "server 1 is no"),
        ("http://a/,ftp://b", "server 2 is no"),
        ("http://a,", "server 2 is no"),
        ("http://me:secret@a/eureka", "credentials: say them under `username` and `password`"),
        ("http://a:port/", "server 1 is no"),
        ("http://a:0/", "server 1 is no"),
        ("http://[::1/", "server 1 is no URL"),
        ("http://a/?token=secret", "after its path"),
        ("http://a/#secret", "after its path"),
    ],
)
def test_T17_an_address_that_cannot_be_used(address: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        service_urls(address, LOGIN)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("a:2379", "server 1 is no `http://host:port` or `https://host:port`"),
        ("http://a:1,http://a:2379/dubbo", "server 2 has something after its port"),
        ("http://a:2379?token=secret", "after its port"),
        ("http://:secret@a:2379", "credentials: say them under `token`"),
    ],
)
def test_an_address_that_cannot_be_used_without_paths(address: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        service_urls(address, ACL, paths=False)
    assert "secret" not in str(raised.value)


async def test_the_server_in_use_is_begun_with_and_the_next_one_where_it_fails() -> None:
    servers = Servers("http://a:1,http://b:2,http://c:3", ACL)
    asked: list[str] = []

    async def begin(url: str) -> str:
        asked.append(url)
        if "a" in url.removeprefix("http"):
            raise SourceDenied("a refuses us")
        return url

    assert await servers.first_good(begin) == "http://b:2"
    assert await servers.first_good(begin) == "http://b:2"
    servers.pass_on()
    assert servers.current() == "http://c:3"
    assert asked == ["http://a:1", "http://b:2", "http://b:2"]


@pytest.mark.parametrize("second", [SourceDenied, SourceUnavailable])
async def test_where_all_servers_fail_it_is_said_of_each_why(second: type[SourceError]) -> None:
    faults = iter([SourceDenied("no rights"), second("not there")])

    async def begin(_: str) -> None:
        raise next(faults)

    with pytest.raises(second) as failed:
        await Servers("http://a:1,http://b:2", ACL).first_good(begin)
    assert str(failed.value) == "no rights; not there"


async def test_an_address_that_cannot_be_used_is_a_fault_of_the_source() -> None:
    with pytest.raises(SourceError, match="server 1 has something after its port"):
        Servers("http://a:1/path", ACL, paths=False).current()
