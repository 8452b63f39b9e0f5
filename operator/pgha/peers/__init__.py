"""Member-to-member messages over mutual TLS; no decisions, no Kubernetes."""
