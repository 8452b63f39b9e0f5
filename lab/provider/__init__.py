"""The lab's stand-in for the official Kubernetes provider of Pulumi.

The official one is a prebuilt download, which a machine without the internet cannot have. This
one serves the same protocol to the same engine and SDK and follows its behaviour as far as this
project's programs can see it (docs/decisions/lab-provider.md). It is for the lab alone.
"""
