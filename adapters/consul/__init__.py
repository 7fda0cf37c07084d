"""Consul: the services of one datacenter, watched by blocking queries."""
