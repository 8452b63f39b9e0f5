"""What a stack may configure: frozen dataclasses, one docstring per key, and their validation.

Nothing here creates a resource or talks to a cluster.
"""
