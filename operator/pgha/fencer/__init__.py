"""The fencer, a process of its own that ends PostgreSQL at the lease's deadline, and its guard."""
