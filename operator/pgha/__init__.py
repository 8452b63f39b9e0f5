"""The runtime operator: an agent in every pod of a PostgreSQL cluster."""

__version__ = "0.1.0"
