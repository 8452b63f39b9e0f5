"""The Kubernetes API for the agent: Lease, watches, pods, small errands; no decisions."""
