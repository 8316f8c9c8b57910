"""Overnight scoring of portfolios, per market, by durable functions."""
