"""Every promise about misbehaving servers, against real processes."""
