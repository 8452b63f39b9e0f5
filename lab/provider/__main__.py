"""The plugin's process: says what it is, then serves."""

import sys

from pulumi.provider.experimental.server import main

from lab import versions
from lab.provider.service import KubernetesStandIn

# stdout is the protocol's: the engine reads the port there.
print(
    "pulumi-resource-kubernetes: this is the lab's stand-in, not the official provider",
    file=sys.stderr, flush=True,
)
main(sys.argv[1:], versions.PULUMI_KUBERNETES, KubernetesStandIn())
