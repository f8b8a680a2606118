"""What the tests of threats share."""

from tests.support.sites import site, where

__all__ = ["site", "where"]
