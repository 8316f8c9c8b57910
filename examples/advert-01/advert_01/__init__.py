"""Small work that need not be done while somebody waits: mail, strategies, PDFs, webhooks."""
