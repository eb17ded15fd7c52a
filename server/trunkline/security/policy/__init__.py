"""What an organisation allows, and how risky tools are."""
