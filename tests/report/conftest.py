"""A made-up product for the report's tests."""

from tests.product_fixture import made

__all__ = ["made"]
