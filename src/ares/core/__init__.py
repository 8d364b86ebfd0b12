"""What everything stands on: types, errors, identity and configuration."""
