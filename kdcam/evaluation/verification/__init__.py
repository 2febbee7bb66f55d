"""Face verification: whether two pictures show one person, by the distance of their embeddings."""
