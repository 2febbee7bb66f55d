"""The recipes that come with kdcam, as TOML files."""
