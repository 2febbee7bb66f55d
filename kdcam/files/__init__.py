"""Files of users and of kdcam: paths, bounded reads, one reader for each kind of file."""
