"""Face verification: whether two pictures show one person, told by the distance of their embeddings."""
