"""Namespaces by id and by name, and what they and the groups are called in the mesh."""

from __future__ import annotations

import pytest

from isthmus.adapters.nacos.connection import Name, Node
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.nacos.scopes import Directory, Tenant, wanted_tenants
from isthmus.adapters.nacos.wire import Namespace
from isthmus.registry.errors import SourceUnavailable

THERE = [
    Namespace("", "public"),
    Namespace("5d1f", "shop"),
    Namespace("77aa", "test"),
    Namespace("88bb", "test"),
    Namespace("shop", "old"),
]
SHOP = [Namespace("", "public"), Namespace("5d1f", "shop")]


class FakePages:
    """Stands for Nacos's list of namespaces: names that two of them have, and a list that is not shown, are cheap here.

    The real pages are read in tests/registries/test_nacos.py.
    """

    def __init__(self, there: list[Namespace] | None) -> None:
        self.there = there

    async def namespaces(self) -> list[Namespace] | None:
        return self.there


async def directory(
    there: list[Namespace] | None = None, tenants: dict[str, Tenant] | None = None, **options: object
) -> Directory:
    known = {} if tenants is None else tenants
    made = Directory(NacosOptions(address="n:1", **options), None, FakePages(there), known)  # type: ignore[arg-type]
    await made.refresh()
    return made


def test_a_namespace_is_named_by_its_id_or_its_name_and_an_id_comes_first() -> None:
    assert wanted_tenants(("public", "shop", "5d1f"), THERE, {}) == [
        Tenant("public", "public"),
        Tenant("shop", "shop"),
        Tenant("5d1f", "5d1f"),
    ]
    assert wanted_tenants(("old",), THERE, {}) == [Tenant("shop", "old")]


def test_a_namespace_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(SourceUnavailable, match=r"no namespace 'shpo' in Nacos; there are: public \(public\), 5d1f"):
        wanted_tenants(("shpo",), THERE, {})


def test_a_name_that_two_namespaces_have_is_an_error() -> None:
    with pytest.raises(SourceUnavailable, match="2 namespaces are called 'test': say their ids"):
        wanted_tenants(("test",), THERE, {})


@pytest.mark.parametrize("there", [None, []])
def test_all_namespaces_are_those_that_nacos_lists(there: list[Namespace] | None) -> None:
    assert [tenant.id for tenant in wanted_tenants(("*",), THERE, {})] == ["public", "5d1f", "77aa", "88bb", "shop"]
    with pytest.raises(SourceUnavailable, match="does not show its list"):
        wanted_tenants(("*",), there, {})


def test_T01_who_may_name_a_namespace_takes_nobodys_hosts() -> None:
    there = [*THERE, Namespace("99cc", "public"), Namespace("aadd", "77aa")]
    labels = {tenant.id: tenant.label for tenant in wanted_tenants(("*",), there, {})}

    # Names that two have, and names that are another one's id, give way to the id.
    assert labels == {one: "old" if one == "shop" else one for one in labels}
    assert len(set(labels.values())) == len(labels)


async def test_T01_of_all_namespaces_only_the_one_with_the_id_is_the_home() -> None:
    made = await directory([Namespace("", "public"), Namespace("99cc", "public")], namespaces=("*",))

    assert made.scope(Node("public", "DEFAULT_GROUP", "a")).qualifiers == ()
    assert made.scope(Node("99cc", "DEFAULT_GROUP", "a")).qualifiers == ("99cc",)


def test_where_nacos_shows_no_list_an_id_is_taken_as_it_is() -> None:
    assert wanted_tenants(("5d1f", "public"), None, {}) == [Tenant("5d1f", "5d1f"), Tenant("public", "public")]


@pytest.mark.parametrize("namespaces", [("shop", "public"), ("*",)])
async def test_G1_a_list_of_namespaces_that_is_hidden_later_renames_no_host(namespaces: tuple[str, ...]) -> None:
    there = [Namespace("", "public"), Namespace("5d1f", "shop")]
    tenants: dict[str, Tenant] = {}
    before = await directory(there, tenants, namespaces=namespaces)
    node = Node("5d1f", "DEFAULT_GROUP", "a")
    scope = before.scope(node)
    for later in (None, [], there[:1]):
        after = await directory(later, tenants, namespaces=namespaces)
        assert after.scope(node) == scope
        assert {one.namespace for one in after.nodes(Name("DEFAULT_GROUP", "a"))} == {"public", "5d1f"}


async def test_the_first_namespace_and_the_first_group_are_the_sources_home() -> None:
    made = await directory(THERE, namespaces=("shop", "public"), groups=("PAY", "DEFAULT_GROUP"))

    assert made.scope(Node("shop", "PAY", "a")).qualifiers == ()
    assert made.scope(Node("shop", "DEFAULT_GROUP", "a")).qualifiers == ("DEFAULT_GROUP",)
    assert made.scope(Node("public", "PAY", "a")).qualifiers == ("public",)
    assert made.scope(Node("public", "DEFAULT_GROUP", "a")).qualifiers == ("DEFAULT_GROUP", "public")


async def test_of_all_namespaces_and_groups_the_home_is_nacoss_own_default() -> None:
    made = await directory(SHOP, namespaces=("*",), groups=("*",))

    assert made.scope(Node("public", "DEFAULT_GROUP", "a")).qualifiers == ()
    assert made.scope(Node("5d1f", "G", "a")).qualifiers == ("G", "shop")


async def test_a_group_and_a_namespace_of_one_name_stay_apart() -> None:
    made = await directory(SHOP, namespaces=("*",), groups=("*",))

    assert made.scope(Node("5d1f", "DEFAULT_GROUP", "a")).qualifiers == ("shop",)
    assert made.scope(Node("public", "shop", "a")).qualifiers == ("group:shop",)


async def test_a_namespace_may_be_published_in_one_of_its_own() -> None:
    mapped = {"shop": "shop-vms", "77aa": "test"}
    made = await directory(
        [*SHOP, Namespace("77aa", "test")], namespaces=("*",), kubernetes_namespaces=mapped, namespace="legacy"
    )

    assert made.scope(Node("5d1f", "G", "a")).kubernetes_namespace == "shop-vms"
    assert made.scope(Node("77aa", "G", "a")).kubernetes_namespace == "test"
    assert made.scope(Node("public", "G", "a")).kubernetes_namespace == "legacy"


async def test_the_public_namespace_alone_needs_no_list() -> None:
    made = await directory(None)

    assert made.nodes(Name("G", "a")) == [Node("public", "G", "a")]
