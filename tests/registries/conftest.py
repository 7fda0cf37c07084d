"""What the tests of several registries' adapters share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.etcd.client import EtcdClient
from tests.registries.etcd_watch import Lists

if TYPE_CHECKING:
    from isthmus.adapters.etcd.client import Listed


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Lists:
    lists = Lists()
    once = EtcdClient.list

    async def counted(self: EtcdClient, prefix: bytes) -> Listed:
        lists.made += 1
        await lists.allowed.wait()
        return await once(self, prefix)

    monkeypatch.setattr(EtcdClient, "list", counted)
    return lists
