"""Nacos: instances of applications and of Dubbo, watched over its push connection."""
