"""PyJWT without `cryptography`.

PyJWT imports it wherever it is installed, for signatures with public keys, which no token of ChatAPI has: 8.7 MB of
memory and 30 ms of the start.
"""

import sys

__all__ = ["jwt"]

_UNUSED = "cryptography"

if _UNUSED in sys.modules:
    import jwt
else:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]  # an import of it fails as if it were not installed
    try:
        import jwt
    finally:
        del sys.modules[_UNUSED]
