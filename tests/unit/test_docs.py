"""What the documentation says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isthmus.adapters.files import read_file
from isthmus.config import config_from_text
from isthmus.registry import codes

CHECKOUT = Path(__file__).parent.parent.parent
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("bench/*.md")])


def yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


def test_every_code_has_its_place_in_the_troubleshooting_page() -> None:
    page = (CHECKOUT / "docs" / "troubleshooting.md").read_text()

    for code in codes.MEANING:
        assert f'<a id="{code.lower()}"></a>{code}' in page
    assert set(re.findall(r"IS\d{3}", page)) == set(codes.MEANING)


def test_the_configurations_that_are_shown_are_valid() -> None:
    example = next(block for block in yaml_blocks(CHECKOUT / "README.md") if "sources:" in block)
    assert [source.name for source in config_from_text(example, {}).sources] == ["zk-main", "by-hand"]
    deployed = config_from_text((CHECKOUT / "deploy" / "isthmus.yaml").read_text(), {})
    assert [source.name for source in deployed.sources] == ["zk-main"]


def test_the_services_that_are_shown_are_read() -> None:
    (block,) = yaml_blocks(CHECKOUT / "docs" / "files.md")
    (service,) = read_file(block, "default")
    assert service.host == "orders.shop.legacy"


def test_istiod_is_never_shown_a_configuration_without_k8s() -> None:
    # With configSources set, istiod reads its own custom resources only where k8s:// is listed (users.md F1).
    shown = [block for page in PAGES for block in yaml_blocks(page)] + [
        (CHECKOUT / "deploy" / "istio-mesh-config.yaml").read_text()
    ]
    for block in shown:
        if "configSources" in block:
            assert "- address: k8s://\n" in block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
