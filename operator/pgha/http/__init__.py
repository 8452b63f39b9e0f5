"""Probes, metrics, and the small HTTP/1.1 reader that they and the peers' server share."""
