"""Delivery: from an accepted message to one transaction of the store, and the replies it gives."""
