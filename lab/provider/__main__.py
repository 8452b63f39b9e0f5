"""The plugin's process: says what it is, serves, and ends with the engine that started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from lab import versions
from lab.provider.servicer import Servicer

GREETING = "pulumi-resource-kubernetes: this is the lab's stand-in, not the official provider"
LARGEST_MESSAGE = 400 * 1024 * 1024  # bytes, as the engine's own
PARENT_SECONDS = 2.0


async def serve(engine: str) -> None:
    """Serve until the engine ends this process by a signal, or is gone itself."""
    ended, parent = asyncio.Event(), os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST_MESSAGE)])
    servicer = Servicer(versions.PULUMI_KUBERNETES, engine)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # stdout is the protocol's: the engine reads the port there.
    print(port, flush=True)
    while not ended.is_set() and os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), PARENT_SECONDS)


def main(arguments: list[str]) -> int:
    """The engine's address is the only argument that matters."""
    addresses = [each for each in arguments if not each.startswith("-")]
    if not addresses:
        print("pulumi-resource-kubernetes is started by pulumi, with its address", file=sys.stderr)
        return 2
    print(GREETING, file=sys.stderr, flush=True)
    asyncio.run(serve(addresses[0]))
    # The engine waits for this end: no thread that still hangs on the API may hold it up.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
