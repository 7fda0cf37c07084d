"""Subscribes to services with nacos-sdk-python and says what it tells; `tests/rig/nacos_sdk.py` starts it.

Its argument is a JSON object: `address`, `grpc_port_offset`, `folder` (for the SDK's files), `services`, and `settings`
of the SDK's ClientConfig. Each line that it says is a JSON object: `service`, and `addresses` for a callback, or
`error` for a subscription that failed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from v2.nacos import (  # type: ignore[import-not-found]
    ClientConfig,
    GRPCConfig,
    Instance,
    NacosException,
    NacosNamingService,
    SubscribeServiceParam,
)
from v2.nacos.common.constants import Constants  # type: ignore[import-not-found]

# The SDK looks at a quiet connection every 5 s, and no setting changes it. Tests take these looks for their clock.
LOOK_AT_CONNECTION_MS = 1_000
# Four times what gRPC takes by default.
LARGEST_MESSAGE = 16 << 20


def say(service: str, **fields: object) -> None:
    print(json.dumps({"service": service, **fields}), flush=True)


async def subscribe(client: Any, service: str) -> None:
    async def tell(instances: list[Instance]) -> None:
        say(service, addresses=[f"{instance.ip}:{instance.port}" for instance in instances])

    try:
        await client.subscribe(SubscribeServiceParam(service_name=service, subscribe_callback=tell))
    except NacosException as error:
        say(service, error=str(error))


async def main(options: dict[str, Any]) -> None:
    folder = options["folder"]
    config = ClientConfig(server_addresses=options["address"], log_dir=f"{folder}/log", log_level=logging.WARNING)
    config.set_cache_dir(f"{folder}/cache")
    grpc = GRPCConfig(port_offset=options["grpc_port_offset"], max_receive_message_length=LARGEST_MESSAGE)
    config.set_grpc_config(grpc)
    for name, value in options["settings"].items():
        setattr(config, name, value)
    client = await NacosNamingService.create_naming_service(config)
    for service in options["services"]:
        await subscribe(client, service)
    await asyncio.Event().wait()


Constants.KEEP_ALIVE_TIME_MILLS = LOOK_AT_CONNECTION_MS
asyncio.run(main(json.loads(sys.argv[1])))
