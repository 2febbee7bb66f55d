"""Class activation maps: the maps, what they point at and pictures of them."""
