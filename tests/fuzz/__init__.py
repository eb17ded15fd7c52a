"""Random requests against a whole gateway: what it must never say, whatever it is asked."""
