"""Isthmus joins the services of legacy registries to an Istio mesh, over MCP-over-xDS."""

__version__ = "0.1.0"
