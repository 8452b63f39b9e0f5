"""Measures outages and cost of this project and of Patroni on the same lab (`make bench`)."""
