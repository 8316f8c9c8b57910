"""What models say of a brand, collected by a durable function behind a FastAPI application."""
