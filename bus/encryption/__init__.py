"""Encryption: the user's codec seals data and results before they are stored; they are opened where they are used."""
