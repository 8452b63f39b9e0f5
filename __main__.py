"""The Pulumi program: one stack is one PostgreSQL cluster (components/)."""

from components.cluster import deploy_stack

deploy_stack()
