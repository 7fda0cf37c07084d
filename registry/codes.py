"""The codes of what is refused, one line each; docs/troubleshooting.md has an anchor for every one."""

from __future__ import annotations

from typing import Final

HOST_CONFLICT: Final = "IS102"
INVALID_HOST: Final = "IS104"
LABEL_REFUSED: Final = "IS105"
DISABLED: Final = "IS201"
UNHEALTHY: Final = "IS202"
BAD_PORT: Final = "IS204"
NOT_AN_ADDRESS: Final = "IS205"
FORBIDDEN_ADDRESS: Final = "IS206"
DUPLICATE: Final = "IS207"
ZERO_WEIGHT: Final = "IS209"
UNKNOWN_SCHEME: Final = "IS210"
GARBLED: Final = "IS211"
TOO_LONG: Final = "IS212"
TOO_MANY: Final = "IS213"
NOT_ACCEPTABLE: Final = "IS214"
PORTS_DIFFER: Final = "IS304"
DENIED: Final = "IS401"

MEANING: Final[dict[str, str]] = {
    HOST_CONFLICT: "two different services would share one host; the first configured one keeps it",
    INVALID_HOST: "no host that istiod takes, or one that only the cluster may own",
    LABEL_REFUSED: "a label was left out; the endpoint is served without it",
    DISABLED: "the instance is registered as disabled, or the registry shows it in a status that does not serve",
    UNHEALTHY: "the registry says that the instance is not healthy",
    BAD_PORT: "the port is not a number from 1 to 65535, or the port of the wanted kind is disabled",
    NOT_AN_ADDRESS: "the address is not an IP address",
    FORBIDDEN_ADDRESS: "the address leads to loopback, link-local or another place the house rules refuse",
    DUPLICATE: "another registration has the same address and port",
    ZERO_WEIGHT: "weight 0 takes the instance out of traffic",
    UNKNOWN_SCHEME: "its protocol is not one the source is configured for: `protocols` (zookeeper), `dubbo` (nacos)",
    GARBLED: "the record cannot be read",
    TOO_LONG: "the record is longer than a registration may be",
    TOO_MANY: "more than the limit allows; the rest is not served",
    NOT_ACCEPTABLE: "istiod would refuse the whole resource; what was good before stays",
    PORTS_DIFFER: "the same service has other ports in a source that comes first",
    DENIED: "the registry does not let us read this; what was known of it is kept",
}
