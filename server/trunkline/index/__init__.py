"""What makes the catalog findable: points, and the two indexes that hold them."""
