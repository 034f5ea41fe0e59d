"""A made-up product for validation's tests."""

from tests.product_fixture import made

__all__ = ["made"]
