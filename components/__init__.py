"""The Pulumi program: declares one PostgreSQL cluster and never reaches into a running database."""
