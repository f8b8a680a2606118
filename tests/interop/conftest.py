"""What the tests with strangers' programs share."""

from tests.support.sites import where

__all__ = ["where"]
