"""Tokens that are renewed before they end (NA9), and signatures."""

from __future__ import annotations

import asyncio

import pytest

from isthmus.adapters.nacos.access import Access, signature
from isthmus.adapters.nacos.wire import Login
from isthmus.registry.errors import SourceDenied, SourceUnavailable


class Logins:
    """Stands for Nacos's login page, whose answers are told here: tokens of a life, or errors."""

    def __init__(self, *answers: float | Exception) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self) -> Login:
        answer = self.answers.pop(0)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        self.count += 1
        return Login(f"token{self.count}", answer)


async def test_NA9_a_token_is_got_once_and_used_until_most_of_its_life_is_over() -> None:
    logins = Logins(3600.0, 3600.0)
    access = Access(logins)

    asked = await asyncio.gather(*(access.headers("G@@a") for _ in range(5)))
    access._renew_at = asyncio.get_running_loop().time()

    assert asked == [{"accessToken": "token1"}] * 5
    assert await access.headers() == {"accessToken": "token2"}


async def test_NA9_a_token_that_was_refused_is_renewed_once_for_all_who_used_it() -> None:
    logins = Logins(3600.0, 3600.0)
    access = Access(logins)
    used = await access.headers()
    access._got_at -= 60

    assert await asyncio.gather(*(access.renew(used) for _ in range(5))) == [True] * 5
    assert logins.count == 2


async def test_NA9_what_a_new_token_may_not_do_another_one_may_not_either() -> None:
    logins = Logins(3600.0)
    access = Access(logins)
    used = await access.headers()

    assert await access.renew(used) is False
    assert logins.count == 1


@pytest.mark.parametrize("fault", [SourceUnavailable("down"), SourceDenied("500")])
async def test_NA9_a_token_is_used_to_its_end_where_it_cannot_be_renewed(fault: Exception) -> None:
    access = Access(Logins(3600.0, fault, fault))
    await access.headers()

    access._renew_at = asyncio.get_running_loop().time()
    assert await access.headers() == {"accessToken": "token1"}
    access._renew_at = access._ends_at = asyncio.get_running_loop().time()
    with pytest.raises(type(fault)):
        await access.headers()


async def test_wrong_credentials_are_an_error_of_the_source() -> None:
    with pytest.raises(SourceDenied):
        await Access(Logins(SourceDenied("403"))).headers()


async def test_a_question_is_signed_with_the_secret_key() -> None:
    headers = await Access(access_key="ak", secret_key="sk").headers("DEFAULT_GROUP@@user-service")

    assert headers["ak"] == "ak"
    assert headers["data"].endswith("@@DEFAULT_GROUP@@user-service")
    now = int(headers["data"].partition("@@")[0])
    assert headers == signature("ak", "sk", "DEFAULT_GROUP@@user-service", now)


def test_the_signature_is_that_of_the_java_client() -> None:
    # nacos-client 2.5.1: SignUtil.sign("1700000000000@@DEFAULT_GROUP@@user-service", "sk")
    headers = signature("ak", "sk", "DEFAULT_GROUP@@user-service", 1_700_000_000_000)

    assert headers["signature"] == "Q4AKQhCMpv31Achhn0nD2D0mqXE="


async def test_without_credentials_nothing_is_sent() -> None:
    access = Access()

    assert await access.headers("a") == {}
    assert await access.renew({}) is False
