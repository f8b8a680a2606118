"""Mail for other operators: a durable queue, mutual TLS, never in clear."""
