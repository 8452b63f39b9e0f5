"""The lab's stand-in for the official Kubernetes provider of Pulumi.

The official one is a prebuilt download, which a machine without the internet cannot have. This
one speaks the same protocol to the same engine and SDK, and follows the behaviour of the official
one (release 4.32) as far as a program of this project can see it. It is for the lab alone.

Point by point, with what differs on purpose: docs/decisions/lab-provider.md.

wire: the engine's values. kinds, normal, quantities, differences, ownership, checkpoint, awaits,
conditions, pods: pure rules about objects. wording: what a user reads. kubeconfig, api: the
cluster. planning: check and diff. waiting: the awaits' loop. lifecycle: create, read, update,
delete. outcome: settings and ends. servicer: the protocol.
"""
