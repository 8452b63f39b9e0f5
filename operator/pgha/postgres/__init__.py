"""Everything that touches PostgreSQL: its directory, its processes, its SQL, its copies."""
