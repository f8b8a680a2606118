"""A SCRAM-SHA-256 client made of ``hashlib`` alone, so that it shares no code with the server.

Source: RFC 5802 §3, RFC 5802 §5, RFC 5929 §4.1.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode


class ScramClient:
    """One exchange.

    Args:
        login: the name, as a person knows it.
        secret: ASCII.
        binding: digest of the server's certificate; with it the exchange is PLUS.
    """

    def __init__(self, login: str, secret: str, binding: bytes | None = None) -> None:
        self.flag = "n" if binding is None else "p=tls-server-end-point"
        self.nonce = "fyko+d2lbbFgONRv9qkxdawL"
        self._name = login.replace("=", "=3D").replace(",", "=2C")
        self._secret = secret
        self._binding = binding or b""
        self._expected = b""

    @property
    def _bare(self) -> str:
        return f"n={self._name},r={self.nonce}"

    def first(self) -> bytes:
        """Give the first message."""
        return f"{self.flag},,{self._bare}".encode()

    def final(self, challenge: bytes) -> bytes:
        """Give the last message, for what the server said."""
        said = dict(part.split("=", 1) for part in challenge.decode().split(","))
        assert said["r"].startswith(self.nonce)
        assert len(said["r"]) > len(self.nonce)
        salt, count = b64decode(said["s"]), int(said["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._secret.encode(), salt, count)
        bound = b64encode(f"{self.flag},,".encode() + self._binding).decode()
        bare = f"c={bound},r={said['r']}"
        message = f"{self._bare},{challenge.decode()},{bare}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._expected = b"v=" + b64encode(hmac.digest(server_key, message, "sha256"))
        return f"{bare},p={b64encode(proof).decode()}".encode()

    def check(self, last: bytes) -> None:
        """Refuse a server that does not know the secret either."""
        assert last == self._expected
