"""How clients are encrypted. Owns the block `clientTLS`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.config.keys import join, key
from components.config.refusal import refusal

SHORTEST, LONGEST = 2, 3650
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", re.ASCII)


def is_secret_name(name: str) -> bool:
    return len(name) <= 253 and _SECRET_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class ClientTLS:
    """`clientTLS`."""

    mode: str = key("string", "Prefer", ("Prefer", "Require"))
    """Prefer: clients may use TLS. Require: those over the network must, and the DSNs say
    sslmode=require. Members always do."""

    secret_name: str = key("string", "")
    """Name of a Secret of your own in the namespace with tls.crt, tls.key and ca.crt, for example
    one of cert-manager's; without it the stack makes a CA, whose certificate is the output
    caCertificate, and the Secret NAME-tls. A renewed Secret is taken up without a restart."""

    validity_days: int = key("integer", 825)
    """Days that a certificate made by the stack is valid, 2 to 3650; `pulumi up` renews one that is
    in the last third of them, under the same CA."""

    def check(self, path: str) -> None:
        if self.secret_name and not is_secret_name(self.secret_name):
            raise refusal(
                join(path, "secretName"), self.secret_name, "it must be the name of a Secret"
            )
        if not SHORTEST <= self.validity_days <= LONGEST:
            raise refusal(
                join(path, "validityDays"),
                self.validity_days,
                f"it must be a whole number from {SHORTEST} to {LONGEST}",
            )
