"""A user's own images, in the form in which she has them: what lies there, how it is divided, what is kept of it."""
