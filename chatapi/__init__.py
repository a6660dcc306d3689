"""ChatAPI: a self-hosted chat backend."""

__version__ = "1.0.0"
