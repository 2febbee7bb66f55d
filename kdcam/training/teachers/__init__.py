"""A teacher's outputs for a few views of each training image, worked out once and kept in files."""
