"""Where URLs may lead that people enter."""
