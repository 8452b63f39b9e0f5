"""The lab: a real three-node Kubernetes cluster in network namespaces, and the tools it needs.

Nothing in here is part of the product; `pgha`, `components` and the Pulumi program never import
it.
"""
