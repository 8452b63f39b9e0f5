"""Every version the lab pins, in one place; nothing here acts.

The Go versions repeat what `gomod/*/go.mod` says, because the link flags and `python -m lab
status` need them; `tests/unit/lab/test_versions.py` keeps the two equal.
"""

from __future__ import annotations

from importlib import metadata

KUBERNETES = "v1.34.4"
ETCD = "v3.6.4"
COREDNS = "v1.13.1"

# The newest engine that the module proxy serves whole.
PULUMI = "v3.250.0"
# The last line of releases that carries the Python language host inside the sdk module.
PULUMI_LANGUAGE_HOST_SDK = "v3.76.0"

# The provider plugin has the version of the SDK that the programs use.
PULUMI_KUBERNETES = metadata.version("pulumi-kubernetes")

PAUSE_IMAGE = "docker.io/lab/pause:1"

# Packages of Debian that the running cluster needs.
CLUSTER_PACKAGES = (
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "iproute2",
    "iptables",
    "nftables",
    "postgresql-client",
    "runc",
    "socat",
    "util-linux",
    "xfsprogs",
)
# Packages of Debian that building the images needs.
IMAGE_PACKAGES = (
    "buildah",
    "debian-archive-keyring",
    "gcc",
    "libc6-dev",
    "mmdebstrap",
    "xz-utils",
)
# Packages of Debian that the end-to-end tests use beside the cluster.
TEST_PACKAGES = ("prometheus",)
