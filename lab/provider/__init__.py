"""The lab's stand-in for the official Kubernetes provider of Pulumi.

The official one is a prebuilt download, which a machine without the internet cannot have. This
one speaks the same protocol to the same engine and SDK, and follows the behaviour of the official
one (release 4.32) as far as a program of this project can see it. It is for the lab alone.

wire: the engine's values. kinds, differences, ownership, awaits, pods: pure rules about objects.
kubeconfig, api: the cluster. planning: check and diff. lifecycle: create, read, update, delete.
servicer: the protocol.
"""
